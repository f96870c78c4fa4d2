// x_k = p_k x_{k-1} + u_k for many independent lanes, one per batch entry and state.
//
// Arrays are (batch, length, n): neighbouring lanes are neighbours in memory. Macros:
//   REAL, COMPLEX   float or double; 1 for complex numbers of it, else 0: inputs and states
//   VARYING         0: one pole per lane, (batch, n);  1: one per step, (batch, length, n)
//   POLE            float or double: the parts of varying poles
//   STEPS           consecutive steps that a thread keeps in registers
//   LANES, GROUPS   a tile is LANES lanes by GROUPS runs of STEPS steps, one thread per run
// Constant poles and initial states may also be (n), shared by the batch: `poles_count` and
// `initial_count` say how many there are. Both are in double precision, and so is a state from step
// to step: memory sets the time, not arithmetic, and long sequences of single precision keep their
// digits.

#if COMPLEX
template <class Real> struct alignas(2 * sizeof(Real)) Complex { Real re, im; };

template <class Real>
__device__ inline Complex<Real> operator+(Complex<Real> a, Complex<Real> b)
{
    return {a.re + b.re, a.im + b.im};
}
template <class Real>
__device__ inline Complex<Real> operator*(Complex<Real> a, Complex<Real> b)
{
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

typedef Complex<REAL> Scalar;
typedef Complex<double> Wide;
typedef Complex<POLE> VaryingPole;

template <class Real> __device__ inline Wide widen(Complex<Real> a) { return {a.re, a.im}; }
__device__ inline Scalar narrow(Wide a) { return {(REAL)a.re, (REAL)a.im}; }
__device__ inline bool is_zero(Wide a) { return a.re == 0 && a.im == 0; }
__device__ inline Wide load_volatile(const Wide* a)
{
    const volatile double* parts = (const volatile double*)a;
    return {parts[0], parts[1]};
}
#else
typedef REAL Scalar;
typedef double Wide;
typedef POLE VaryingPole;

template <class Real> __device__ inline Wide widen(Real a) { return a; }
__device__ inline Scalar narrow(Wide a) { return (Scalar)a; }
__device__ inline bool is_zero(Wide a) { return a == 0; }
__device__ inline Wide load_volatile(const Wide* a) { return *(const volatile Wide*)a; }
#endif

#if VARYING
typedef VaryingPole Pole;
#else
typedef Wide Pole;
#endif

// The state after a stretch of steps that multiplies by `product` and takes zero to `end`.
// Products of unstable poles may overflow, and infinity times zero is no number: a lane at rest
// must stay at rest.
__device__ inline Wide pass(Wide state, Wide product, Wide end)
{
    return is_zero(state) ? end : product * state + end;
}

// Up to STEPS consecutive steps of one lane. Loops over STEPS are unrolled, which makes every
// index known and keeps the arrays in registers.
struct Run {
    int count;                // steps that exist; the others have no drive and are not stored
    long long first, stride;  // where the steps lie, in the order in which they are processed
    Pole pole[VARYING ? STEPS : 1];
    Scalar drive[STEPS];

    // `poles` point to the one of this lane, or when they vary to those of all.
    __device__ Run(const Pole* poles, const Scalar* inputs, long long lane, long long start,
                   long long n, long long length, long long reverse)
    {
        const long long left = length - start;
        count = left < 0 ? 0 : left < STEPS ? (int)left : STEPS;
        first = (lane / n * length + (reverse ? left - 1 : start)) * n + lane % n;
        stride = reverse ? -n : n;
        if (!VARYING) pole[0] = *poles;
#pragma unroll
        for (int k = 0; k < STEPS; ++k) {
            drive[k] = k < count ? inputs[first + k * stride] : Scalar{};
            if (VARYING) pole[k] = k < count ? poles[first + k * stride] : Pole{};
        }
    }

    __device__ Wide pole_at(int k) const { return widen(pole[VARYING ? k : 0]); }

    __device__ Wide step(int k, Wide state) const { return pole_at(k) * state + widen(drive[k]); }

    __device__ Wide store(Wide state, Scalar* states) const
    {
#pragma unroll
        for (int k = 0; k < STEPS; ++k) {
            state = step(k, state);
            if (k < count) states[first + k * stride] = narrow(state);
        }
        return state;
    }
};

// One thread per lane: for so many lanes that they alone keep the memory busy.
extern "C" __global__ void recur_in_sequence(
    const Pole* __restrict__ poles, const Scalar* __restrict__ inputs,
    const Wide* __restrict__ initial, Scalar* __restrict__ states,
    long long lanes, long long n, long long length, long long reverse,
    long long poles_count, long long initial_count)
{
    const long long lane = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (lane >= lanes) return;
    if (!VARYING) poles += lane % poles_count;
    Wide state = initial[lane % initial_count];
    for (long long start = 0; start < length; start += STEPS) {
        const Run run(poles, inputs, lane, start, n, length, reverse);
        state = run.store(state, states);
    }
}

// Two blocks share a multiprocessor where registers allow: one loads while the other waits.
constexpr int BLOCKS = (sizeof(Scalar) + VARYING * sizeof(Pole)) * STEPS <= 128 ? 2 : 1;

// One thread per lane and run of steps: few lanes keep the memory busy as well. Every number is
// read once and written once; from tile to tile only the states of the lanes are handed on, in
// `carries`, (tiles - 1, lanes). `tickets` and `ready`, of that shape, are zero at the launch.
//
// Products of poles are in double precision too: every run with the same pole rounds its product
// alike, and such errors would add up from run to run.
extern "C" __global__ void __launch_bounds__(LANES * GROUPS, BLOCKS) recur_in_tiles(
    const Pole* __restrict__ poles, const Scalar* __restrict__ inputs,
    const Wide* __restrict__ initial, Scalar* __restrict__ states,
    long long lanes, long long n, long long length, long long reverse,
    long long poles_count, long long initial_count,
    int* tickets, int* ready, Wide* carries)
{
    __shared__ Wide products[GROUPS][LANES], ends[GROUPS][LANES];
    __shared__ int ticket;
    const long long strips = (lanes + LANES - 1) / LANES;
    const long long tiles = (length + GROUPS * STEPS - 1) / (GROUPS * STEPS);

    // Blocks start in no certain order. Numbered in the order in which they do, each waits for one
    // that runs already, and some block never has to wait.
    if (threadIdx.x == 0) ticket = tiles > 1 ? atomicAdd(tickets, 1) : (int)blockIdx.x;
    __syncthreads();
    const int column = threadIdx.x % LANES, group = threadIdx.x / LANES;
    const long long tile = ticket / strips, lane = ticket % strips * LANES + column;
    const long long start = (tile * GROUPS + group) * STEPS;
    const bool inside = lane < lanes;

    // Each run from zero.
    if (!VARYING) poles += lane % poles_count;
    const Run run(poles, inputs, lane, inside ? start : length, n, length, reverse);
    Wide product = run.pole_at(0), end = widen(run.drive[0]);
#pragma unroll
    for (int k = 1; k < STEPS; ++k) {
        product = product * run.pole_at(k);
        end = run.step(k, end);
    }
    products[group][column] = product;
    ends[group][column] = end;
    __syncthreads();

    // One thread per lane: all runs together, the state that enters the tile, the one that leaves
    // it (at once: the next tile waits for it), and then those that enter the runs.
    if (group == 0 && inside) {
        for (int g = 1; g < GROUPS; ++g) {
            end = pass(end, products[g][column], ends[g][column]);
            product = product * products[g][column];
        }
        const long long here = tile * lanes + lane;
        Wide state = initial[lane % initial_count];
        if (tile > 0) {
            while (!*(volatile int*)(ready + here - lanes)) {}
            __threadfence();
            // Volatile: what another multiprocessor wrote may be stale in this one's cache.
            state = load_volatile(carries + here - lanes);
        }
        if (tile + 1 < tiles) {
            carries[here] = pass(state, product, end);
            __threadfence();
            *(volatile int*)(ready + here) = 1;
        }
        for (int g = 0; g < GROUPS; ++g) {
            end = ends[g][column];
            ends[g][column] = state;
            state = pass(state, products[g][column], end);
        }
    }
    __syncthreads();

    // Each run again, from the state that enters it: step by step, as a single thread would.
    run.store(ends[group][column], states);
}
