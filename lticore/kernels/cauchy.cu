// Elimination with complete pivoting on the generator of a Cauchy-like matrix. The formulas are
// derived in lticore/equations/cauchy.py, and so is what tells the times apart: poles are
// rho e^{i theta} in discrete time, -delta + i omega where CONTINUOUS, a macro, is 1. Here rho and
// delta are `size`, theta and omega `phase`.
//
// One launch per column. Each block leaves the best pivot among its states, and that pivot's row
// of the generator, for the next launch: no block waits for another, and nothing for the host.
// Arrays: size and phase (batch, n), generator (batch, m, n), overwritten; candidates (batch,
// blocks) with their rows, `winners`, (batch, blocks, m). Blocks take states in turn, THREADS (a
// macro, a power of two) at a time.

struct alignas(16) Complex { double re, im; };

__device__ inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
__device__ inline Complex operator*(double a, Complex b) { return {a * b.re, a * b.im}; }
__device__ inline Complex operator*(Complex a, Complex b)
{
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
__device__ inline Complex conjugate(Complex a) { return {a.re, -a.im}; }
__device__ inline double squared(Complex a) { return a.re * a.re + a.im * a.im; }
__device__ inline Complex operator/(Complex a, Complex b)
{
    return (1 / squared(b)) * (a * conjugate(b));
}

// A state and the diagonal entry that remains there; a negative one is never chosen.
struct alignas(16) Candidate { double height; long long state; };

// Of equal heights the first state, as argmax has it.
__device__ inline Candidate better(Candidate a, Candidate b)
{
    return a.height > b.height || (a.height == b.height && a.state <= b.state) ? a : b;
}

// The best of the candidates of a block's threads, returned to all of them.
__device__ Candidate best_of_block(Candidate mine)
{
    __shared__ Candidate shared[THREADS];
    __syncthreads();
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            shared[threadIdx.x] = better(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    return shared[0];
}

// The diagonal entry |b_i|^2 / d_ii of what remains.
__device__ Candidate candidate(const double* size, const Complex* generator, long long i,
                               long long n, long long m)
{
    double energy = 0;
    for (long long c = 0; c < m; ++c) energy += squared(generator[c * n + i]);
    return {energy / (CONTINUOUS ? 2 * size[i] : (1 - size[i]) * (1 + size[i])), i};
}

// d_ik and lambda_i - lambda_k, in discrete time up to the phase of lambda_k.
struct Pair { Complex distance, difference; };

__device__ inline Pair to_pivot(double size, double pivot, double turn)
{
    if constexpr (CONTINUOUS) {
        return {{size + pivot, -turn}, {pivot - size, turn}};
    } else {
        double sine, cosine;
        sincos(turn / 2, &sine, &cosine);
        // 1 - e^{i turn}, without the cancellation for a small turn = theta_i - theta_k
        const Complex chord = {2 * sine * sine, -2 * sine * cosine};
        const Complex gap = {(1 - size) + size * (1 - pivot), 0.0}, offset = {size - pivot, 0.0};
        return {gap + size * pivot * chord, offset - size * chord};
    }
}

__device__ void leave(Candidate mine, const Complex* generator, long long n, long long m,
                      Candidate* candidates, Complex* winners)
{
    const Candidate best = best_of_block(mine);
    if (threadIdx.x == 0) candidates[blockIdx.x] = best;
    for (long long c = threadIdx.x; c < m; c += THREADS)
        winners[blockIdx.x * m + c] = generator[c * n + best.state];
}

// The candidates for the first column.
extern "C" __global__ void nominate(const double* size, const Complex* generator, long long n,
                                    long long m, long long blocks, Candidate* candidates,
                                    Complex* winners)
{
    const long long entry = blockIdx.x / blocks, block = blockIdx.x % blocks;
    size += entry * n;
    generator += entry * m * n;
    Candidate best = {-1.0, 0};
    for (long long i = block * THREADS + threadIdx.x; i < n; i += blocks * THREADS)
        best = better(best, candidate(size, generator, i, n, m));
    leave(best, generator, n, m, candidates, winners);
}

// Column `step` of the factor, into column `j` of `columns`, (batch, width, n), and the candidates
// for the next. The first step sets `stop`, (batch,); `ranks`, (batch,), count the columns used.
extern "C" __global__ void eliminate(
    const double* __restrict__ size, const double* __restrict__ phase, Complex* generator,
    long long n, long long m, long long blocks,
    const Candidate* __restrict__ candidates, const Complex* __restrict__ winners,
    Candidate* next_candidates, Complex* next_winners,
    long long step, double rtol, double* stop, long long* ranks,
    Complex* columns, long long j, long long width)
{
    const long long entry = blockIdx.x / blocks, block = blockIdx.x % blocks;
    size += entry * n;
    phase += entry * n;
    generator += entry * m * n;
    Complex* column = columns + (entry * width + j) * n;

    Candidate best = {-1.0, 0};
    for (long long other = threadIdx.x; other < blocks; other += THREADS)
        best = better(best, candidates[entry * blocks + other]);
    const Candidate pivot = best_of_block(best);
    const double threshold = step ? stop[entry] : fmax(rtol * pivot.height, 0.0);
    const bool alive = pivot.height > threshold;
    if (block == 0 && threadIdx.x == 0) {
        if (step == 0) stop[entry] = threshold;
        if (alive) ranks[entry] = step + 1;
    }

    const long long k = pivot.state, owner = k / THREADS % blocks;
    const Complex* row = winners + (entry * blocks + owner) * m;
    double norm = 0;
    for (long long c = 0; c < m; ++c) norm += squared(row[c]);
    norm = sqrt(norm);

    best = {-1.0, 0};
    for (long long i = block * THREADS + threadIdx.x; i < n; i += blocks * THREADS) {
        if (!alive) {
            column[i] = Complex{};
            continue;
        }
        const Pair pair = to_pivot(size[i], size[k], phase[i] - phase[k]);
        const Complex blaschke = pair.difference / pair.distance;

        Complex along = {0.0, 0.0};
        for (long long c = 0; c < m; ++c)
            along = along + generator[c * n + i] * conjugate(row[c]);
        along = (1 / norm) * along;
        column[i] = norm / sqrt(pivot.height) * (along / pair.distance);

        // For one input a product only, which keeps the relative accuracy of every entry.
        const Complex change = (1 / norm) * (along * (Complex{1.0, 0.0} - blaschke));
        for (long long c = 0; c < m; ++c) {
            Complex& b = generator[c * n + i];
            b = i == k ? Complex{} : m == 1 ? b * blaschke : b - change * row[c];
        }
        best = better(best, candidate(size, generator, i, n, m));
    }
    leave(best, generator, n, m, next_candidates, next_winners);
}
