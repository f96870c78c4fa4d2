// Sums and maxima over rows and over whole matrices (batch, n, m) of real numbers, or of complex
// ones where the macro COMPLEX is 1; blocks of THREADS threads, a macro, a power of two.

#if COMPLEX
struct alignas(16) Number { double re, im; };
__device__ inline double modulus(Number a) { return hypot(a.re, a.im); }
__device__ inline double product(Number a, Number b) { return a.re * b.re + a.im * b.im; }
#else
typedef double Number;
__device__ inline double modulus(Number a) { return fabs(a); }
__device__ inline double product(Number a, Number b) { return a * b; }
#endif

struct Sum { __device__ static double of(double a, double b) { return a + b; } };
struct Largest { __device__ static double of(double a, double b) { return fmax(a, b); } };

template <class Both> __device__ double over_block(double mine)
{
    __shared__ double shared[THREADS];
    __syncthreads();
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            shared[threadIdx.x] = Both::of(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    return shared[0];
}

// Re <X, Y>. PARTS blocks per matrix, of which the last adds up what all have left; `done`, one for
// each matrix, are zero at the launch. Matrices lie in memory as they are, or transposed.
extern "C" __global__ void inner_product(
    const Number* __restrict__ X, const Number* __restrict__ Y, double* __restrict__ result,
    double* __restrict__ partial, int* __restrict__ done, long long n, long long m,
    long long X_transposed, long long Y_transposed)
{
    __shared__ bool last;
    const long long entry = blockIdx.x / PARTS, part = blockIdx.x % PARTS;
    X += entry * n * m;
    Y += entry * n * m;
    double sum = 0;
    for (long long at = part * THREADS + threadIdx.x; at < n * m; at += PARTS * THREADS) {
        const long long mirror = X_transposed == Y_transposed ? at : at % m * n + at / m;
        sum += X_transposed ? product(X[mirror], Y[at]) : product(X[at], Y[mirror]);
    }
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(done + entry, 1) == PARTS - 1;
        __threadfence();
    }
    __syncthreads();
    if (!last) return;
    sum = threadIdx.x < PARTS ? partial[entry * PARTS + threadIdx.x] : 0;
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) result[entry] = sum;
}

// Norms of the rows of X, for both states of the first `pairs` of `modes` their root mean square;
// squares may be too small or too large for numbers. One block per mode.
extern "C" __global__ void sizes_of_states(const Number* __restrict__ X, double* __restrict__ sizes,
                                           long long modes, long long pairs, long long m,
                                           long long transposed)
{
    const long long entry = blockIdx.x / modes, i = blockIdx.x % modes, n = modes + pairs;
    const long long row = i + (i < pairs ? i : pairs), states = i < pairs ? 2 : 1;
    const long long down = transposed ? 1 : m, right = transposed ? n : 1;
    X += entry * n * m + row * down;
    double largest = 0;
    for (long long j = threadIdx.x; j < m; j += THREADS)
        for (long long k = 0; k < states; ++k)
            largest = fmax(largest, modulus(X[j * right + k * down]));
    largest = over_block<Largest>(largest);
    const double unit = largest > 0 ? largest : 1;
    double sum = 0;
    for (long long j = threadIdx.x; j < m; j += THREADS)
        for (long long k = 0; k < states; ++k) {
            const double share = modulus(X[j * right + k * down]) / unit;
            sum += share * share;
        }
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0)
        for (long long k = 0; k < states; ++k)
            sizes[entry * n + row + k] = unit * sqrt(sum / (double)states);
}

__device__ inline bool is_finite(double a) { return a - a == 0; }
// A size's log2, rounded; of nothing as in lticore/systems/signals.py.
__device__ inline double whole(double a) { return a > log2(0.0) ? rint(a) : -2000; }

// As balancing_exponents in lticore/hankel/scales.py derives them: u, x, y (batch, n), whole
// numbers, and e (batch) from the sizes b and c of the states and the drains of their modes. One
// block per system.
extern "C" __global__ void balancing_exponents(
    const double* __restrict__ b, const double* __restrict__ c, const double* __restrict__ drain,
    double* __restrict__ u, double* __restrict__ x, double* __restrict__ y, double* __restrict__ e,
    long long n, long long modes)
{
    const long long pairs = n - modes, start = blockIdx.x * n;
    b += start, c += start, u += start, x += start, y += start;
    drain += blockIdx.x * modes;
    const double none = log2(0.0);
    double level = none;
    for (long long i = threadIdx.x; i < n; i += THREADS) {
        const double log_drain = log2(drain[i < 2 * pairs ? i / 2 : i - pairs]);
        level = fmax(level, 2 * log2(b[i]) + 2 * log2(c[i]) - 2 * log_drain);
    }
    level = over_block<Largest>(level);
    if (!is_finite(level)) level = 0;
    double size_b = none, size_c = none;
    for (long long i = threadIdx.x; i < n; i += THREADS) {
        const double log_drain = log2(drain[i < 2 * pairs ? i / 2 : i - pairs]);
        const double p = 2 * log2(b[i]) - log_drain, q = 2 * log2(c[i]) - log_drain;
        const bool reached = is_finite(p), observed = is_finite(q);
        const double log_p = reached ? p : observed ? level - q : 0;
        const double log_q = observed ? q : reached ? level - p : 0;
        u[i] = rint((log_q - log_p) / 4);
        size_b = fmax(size_b, log2(b[i]) + u[i]);
        size_c = fmax(size_c, log2(c[i]) - u[i]);
    }
    size_b = whole(over_block<Largest>(size_b));
    size_c = whole(over_block<Largest>(size_c));
    for (long long i = threadIdx.x; i < n; i += THREADS) {
        x[i] = u[i] - size_b;
        y[i] = -u[i] - size_c;
    }
    if (threadIdx.x == 0) e[blockIdx.x] = size_b + size_c;
}

// The gradient of rotation_gradient in lticore/hankel/gradients.py: of X A P and Y A Q, symmetric
// matrices (batch, n, n), on the radii and angles of the blocks and on the real poles. One block per
// mode, whose threads share out the modes k of A; the first `pairs` of `modes` are rotation blocks.
extern "C" __global__ void rotation_gradient(
    const double* __restrict__ radius, const double* __restrict__ angle,
    const double* __restrict__ poles, const double* __restrict__ X, const double* __restrict__ P,
    const double* __restrict__ Y, const double* __restrict__ Q, double* __restrict__ radial,
    double* __restrict__ angular, double* __restrict__ real, long long modes, long long pairs)
{
    const long long entry = blockIdx.x / modes, i = blockIdx.x % modes, n = modes + pairs;
    const bool pair = i < pairs;
    const long long row = entry * n + i + (pair ? i : pairs);
    radius += entry * pairs;
    angle += entry * pairs;
    poles += entry * (modes - pairs);

    double along = 0, across = 0;
    for (int product = 0; product < 2; ++product) {
        const double *X1 = (product ? Y : X) + row * n, *P1 = (product ? Q : P) + row * n;
        // Of a real pole the second row is not looked at.
        const double *X2 = pair ? X1 + n : X1, *P2 = pair ? P1 + n : P1;
        for (long long k = threadIdx.x; k < modes; k += THREADS) {
            const long long at = k + (k < pairs ? k : pairs);
            if (k < pairs) {
                double sine, cosine;
                sincos(angle[k], &sine, &cosine);
                sine *= radius[k];
                cosine *= radius[k];
                // Rows of (A P)^T.
                const double v1 = cosine * P1[at] + sine * P1[at + 1];
                const double v2 = cosine * P1[at + 1] - sine * P1[at];
                const double w1 = cosine * P2[at] + sine * P2[at + 1];
                const double w2 = cosine * P2[at + 1] - sine * P2[at];
                along += X1[at] * v1 + X1[at + 1] * v2;
                if (pair) {
                    along += X2[at] * w1 + X2[at + 1] * w2;
                    across += X1[at] * w1 + X1[at + 1] * w2 - X2[at] * v1 - X2[at + 1] * v2;
                }
            } else {
                const double pole = poles[k - pairs];
                along += pole * X1[at] * P1[at];
                if (pair) {
                    along += pole * X2[at] * P2[at];
                    across += pole * (X1[at] * P2[at] - X2[at] * P1[at]);
                }
            }
        }
    }
    along = over_block<Sum>(along);
    across = over_block<Sum>(across);
    if (threadIdx.x > 0) return;
    if (pair) {
        double sine, cosine;
        sincos(angle[i], &sine, &cosine);
        radial[entry * pairs + i] = along * cosine + across * sine;
        angular[entry * pairs + i] = radius[i] * (across * cosine - along * sine);
    } else {
        real[entry * (modes - pairs) + i - pairs] = along;
    }
}
