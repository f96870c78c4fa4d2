// x_k = p_k x_{k-1} + u_k for many independent lanes, one per batch entry and state; with ADJOINT
// the cotangents v_k of the inputs from those of the states, g_k, and those of the poles:
//
//   v_k = g_k + conj(p_{k+1}) v_{k+1},   of p_k: v_k conj(x_{k-1}),  summed over k where p is one
//
// Arrays are (batch, length, n): neighbouring lanes are neighbours in memory. Macros:
//   REAL, COMPLEX   float or double; 1 for complex numbers of it, else 0: inputs and states
//   POLE, START     float or double: the parts of poles and of initial states
//   VARYING         0: one pole per lane, (batch, n);  1: one per step, (batch, length, n)
//   ADJOINT         1: cotangents;  SLOPE float or double: the parts of those of the poles
//   ALONE           1: each block takes all tiles of its lanes;  0: one tile
//   STEPS           consecutive steps that a thread keeps in registers
//   LANES, GROUPS   a tile is LANES lanes by GROUPS runs of STEPS steps, one thread per run; GROUPS
//                   is a power of two up to 32
// Constant poles and initial states may also be (n), shared by the batch: `poles_count` and
// `initial_count` say how many there are. A state from step to step is in double precision, and so
// are products of poles, whose roundings, alike in every run of the same pole, would add up, and
// sums over steps: memory sets the time, not arithmetic.
//
// Every number is read once and written once. Where there are fewer blocks than fill a device, the
// tiles of a lane are shared out among blocks, which hand on what enters the next.

template <class Real> struct alignas(2 * sizeof(Real)) Complex { Real re, im; };

#if COMPLEX
template <class Real> using Number = Complex<Real>;
#else
template <class Real> using Number = Real;
#endif
typedef Number<REAL> Scalar;
typedef Number<POLE> Pole;
typedef Number<START> Start;
typedef Number<SLOPE> Slope;
typedef Number<double> Wide;

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
__device__ inline double widen(double a) { return a; }
template <class Real> __device__ inline Complex<double> widen(Complex<Real> a)
{
    return {a.re, a.im};
}
__device__ inline void narrow(double a, float& to) { to = (float)a; }
__device__ inline void narrow(double a, double& to) { to = a; }
template <class Real> __device__ inline void narrow(Complex<double> a, Complex<Real>& to)
{
    to = {(Real)a.re, (Real)a.im};
}
__device__ inline double conjugate(double a) { return a; }
__device__ inline Complex<double> conjugate(Complex<double> a) { return {a.re, -a.im}; }
__device__ inline bool is_zero(double a) { return a == 0; }
__device__ inline bool is_zero(Complex<double> a) { return a.re == 0 && a.im == 0; }

// --- the threads of a lane, neighbours in a warp --------------------------------------------------

const unsigned int ALL = 0xffffffff;

// The value of the thread so many places before, or of the one at a place.
__device__ inline double from_before(double a, int places)
{
    return __shfl_up_sync(ALL, a, places, GROUPS);
}
__device__ inline double from_place(double a, int place)
{
    return __shfl_sync(ALL, a, place, GROUPS);
}
__device__ inline Complex<double> from_before(Complex<double> a, int places)
{
    return {from_before(a.re, places), from_before(a.im, places)};
}
__device__ inline Complex<double> from_place(Complex<double> a, int place)
{
    return {from_place(a.re, place), from_place(a.im, place)};
}

// What a stretch of steps does to a state: x -> product x + end.
struct Map { Wide product, end; };

// Products of unstable poles may overflow, and infinity times zero is no number: a lane at rest
// must stay at rest.
__device__ inline Wide apply(Map map, Wide state)
{
    return is_zero(state) ? map.end : map.product * state + map.end;
}
__device__ inline Map from_place(Map a, int place)
{
    return {from_place(a.product, place), from_place(a.end, place)};
}
__device__ inline Map from_before(Map a, int places)
{
    return {from_before(a.product, places), from_before(a.end, places)};
}

// The maps of all places up to each, one after the other.
__device__ inline Map chain(Map map, int place)
{
#pragma unroll
    for (int places = 1; places < GROUPS; places *= 2) {
        const Map before = from_before(map, places);
        if (place >= places) map = {before.product * map.product, apply(map, before.end)};
    }
    return map;
}

// The sum over all places, at the last one.
__device__ inline Wide sum_to_last(Wide a, int place)
{
#pragma unroll
    for (int places = 1; places < GROUPS; places *= 2) {
        const Wide before = from_before(a, places);
        if (place >= places) a = a + before;
    }
    return a;
}

// `a`, of which the compiler knows nothing: what is computed from it is computed where it is used,
// not kept in registers from a use before.
__device__ inline long long anew(long long a)
{
#ifdef __CUDA_ARCH__
    asm volatile("" : "+l"(a));
#endif
    return a;
}

// --- runs of steps --------------------------------------------------------------------------------

// Up to STEPS consecutive steps of one lane. Loops over STEPS are unrolled, which makes every
// index known and keeps the arrays in registers.
struct Run {
    int count;                // steps that exist; the others have no drive and are not stored
    bool ends;                // whether no step comes after these
    long long first, stride;  // where the steps lie, in the order in which they are processed
    Pole pole[VARYING ? STEPS : 1];
    Scalar drive[STEPS];

    // `poles` point to the one of this lane, or when they vary to those of all.
    __device__ Run(const Pole* poles, const Scalar* inputs, long long lane, long long start,
                   long long n, long long length, bool reverse)
    {
        const long long left = length - start;
        count = left < 0 ? 0 : left < STEPS ? (int)left : STEPS;
        ends = left <= STEPS;
        first = (lane / n * length + (reverse ? left - 1 : start)) * n + lane % n;
        stride = reverse ? -n : n;
        if (!VARYING) pole[0] = *poles;
#pragma unroll
        for (int k = 0; k < STEPS; ++k) {
            drive[k] = k < count ? inputs[first + k * stride] : Scalar{};
            // Cotangents take each pole one step later, and the first step none.
            const bool has_pole = k < count && (!ADJOINT || k > 0 || start > 0);
            if (VARYING) pole[k] = has_pole ? poles[first + (k - ADJOINT) * stride] : Pole{};
        }
    }

    __device__ Wide pole_at(int k) const
    {
        const Wide p = widen(pole[VARYING ? k : 0]);
        return ADJOINT ? conjugate(p) : p;
    }

    __device__ Wide step(int k, Wide state) const { return pole_at(k) * state + widen(drive[k]); }

    __device__ Map map() const
    {
        Map map = {pole_at(0), widen(drive[0])};
#pragma unroll
        for (int k = 1; k < STEPS; ++k) map = {map.product * pole_at(k), step(k, map.end)};
        return map;
    }

    // Step by step, as a single thread would.
    __device__ void store(Wide state, Scalar* states) const
    {
        long long here = anew(first);
#pragma unroll
        for (int k = 0; k < STEPS; ++k, here += stride) {
            state = step(k, state);
            if (k < count) narrow(state, states[here]);
        }
    }

    // The same for cotangents, with those of the poles from the states of the recurrence: returns
    // their sum, or when poles vary writes each.
    __device__ Wide store(Wide state, Scalar* back, const Scalar* states, const Start* initial,
                          Slope* slopes) const
    {
        Wide sum = {};
        long long here = anew(first);
#pragma unroll
        for (int k = 0; k < STEPS; ++k, here += stride) {
            state = step(k, state);
            if (k >= count) continue;
            narrow(state, back[here]);
            const bool is_last = ends && k == count - 1;
            const Wide before = is_last ? widen(*initial) : widen(states[here + stride]);
            const Wide slope = state * conjugate(before);
            if (VARYING) narrow(slope, slopes[here]);
            sum = sum + slope;
        }
        return sum;
    }
};

// --- from block to block --------------------------------------------------------------------------

__device__ inline void raise(int* flag)
{
    __threadfence();
    *(volatile int*)flag = 1;
}
__device__ inline void wait_for(const int* flag)
{
    while (!*(const volatile int*)flag) {}
    __threadfence();
}

// What blocks hand on. `tickets`, one, and the flags `ready` (tiles, lanes), `arrived` (windows,
// lanes) and `done` (strips) are zero at the launch.
struct Relay {
    int *tickets, *ready, *arrived, *done;
    Map* maps;       // (tiles, lanes): of each tile, when it is ready
    Wide* passed;    // (windows, lanes): the state after each GROUPS tiles, when it has arrived
    Wide* partial;   // (tiles, lanes): sums over the steps of a tile

    __device__ Relay(int* signals, Wide* scratch, long long tiles, long long lanes)
    {
        const long long windows = (tiles + GROUPS - 1) / GROUPS;
        tickets = signals;
        ready = tickets + 1;
        arrived = ready + tiles * lanes;
        done = arrived + windows * lanes;
        maps = (Map*)scratch;
        passed = scratch + 2 * tiles * lanes;
        partial = passed + windows * lanes;
    }

    // The state that enters a tile, from `initial`. A tile hands on its map at once; the last one
    // of a window of GROUPS also the state after it. So no tile waits for states but those of whole
    // windows, and all is added up in the same order in every run.
    __device__ Wide enter(Wide initial, Map map, long long tile, long long lane, bool inside,
                          int place, long long lanes) const
    {
        const long long window = tile / GROUPS, first = window * GROUPS;
        const bool last = place == GROUPS - 1;
        if (inside && last) {
            maps[tile * lanes + lane] = map;
            raise(ready + tile * lanes + lane);
        }
        Map before = {};
        if (inside && first + place < tile) {
            wait_for(ready + (first + place) * lanes + lane);
            before = maps[(first + place) * lanes + lane];
        }
        Wide state = initial;
        if (inside && window > 0) {
            wait_for(arrived + (window - 1) * lanes + lane);
            state = passed[(window - 1) * lanes + lane];
        }
        before = chain(before, place);
        const int count = (int)(tile - first);
        before = from_place(before, count > 0 ? count - 1 : 0);
        if (count > 0) state = apply(before, state);
        if (inside && last && count == GROUPS - 1) {
            passed[window * lanes + lane] = apply(map, state);
            raise(arrived + window * lanes + lane);
        }
        return state;
    }
};

// `initial` is the state before the first step of the recurrence, of cotangents too, which start from
// zero; they alone need `trajectory`, the states, and `slopes`, those of the poles.
extern "C" __global__ void __launch_bounds__(LANES * GROUPS, BLOCKS) recur(
    const Pole* __restrict__ poles, const Scalar* inputs, const Start* __restrict__ initial,
    Scalar* states, long long lanes, long long n, long long length, long long reverse,
    long long poles_count, long long initial_count, int* signals, Wide* scratch,
    const Scalar* __restrict__ trajectory, Slope* slopes)
{
    __shared__ Map runs[LANES][GROUPS + 1];
    __shared__ unsigned int ticket;
    const long long strips = (lanes + LANES - 1) / LANES;
    const long long tiles = (length + GROUPS * STEPS - 1) / (GROUPS * STEPS);
    const Relay relay(signals, scratch, tiles, lanes);

    // Blocks start in no certain order. Numbered in the order in which they do, each waits for some
    // that run already, and some block never has to wait.
    if (threadIdx.x == 0) ticket = ALONE ? blockIdx.x : (unsigned int)atomicAdd(relay.tickets, 1);
    __syncthreads();
    const long long strip = ticket % strips, last = ALONE ? tiles : ticket / strips + 1;

    // A thread works on the run `group` of the lane `column`, whose neighbours in memory its
    // neighbours take, and where runs meet on the place `place` of the lane `row`.
    const int column = threadIdx.x % LANES, group = threadIdx.x / LANES;
    const int row = threadIdx.x / GROUPS, place = threadIdx.x % GROUPS;
    const long long lane = strip * LANES + column, joined = strip * LANES + row;
    const bool inside = joined < lanes;
    if (!VARYING) poles += lane % poles_count;
    Wide state = {}, sum = {};
    if (!ADJOINT) state = widen(initial[joined % initial_count]);

    for (long long tile = ALONE ? 0 : ticket / strips; tile < last; ++tile) {
        // Each run from zero.
        const long long from = lane < lanes ? (tile * GROUPS + group) * STEPS : length;
        const Run run(poles, inputs, lane, from, n, length, reverse);
        runs[column][group] = run.map();
        __syncthreads();

        // All runs of a lane together, and the states that enter them.
        const Map up_to = chain(runs[row][place], place);
        const Map before = from_before(up_to, 1), all = from_place(up_to, GROUPS - 1);
        if (!ALONE) state = relay.enter(state, all, tile, joined, inside, place, lanes);
        runs[row][place].end = place ? apply(before, state) : state;
        if (ALONE) state = apply(all, state);
        __syncthreads();

        // Each run again, from the state that enters it.
        const Wide entering = runs[column][group].end;
        if (ADJOINT)
            sum = sum + run.store(entering, states, trajectory, initial + lane % initial_count, slopes);
        else run.store(entering, states);
    }

    if (!ADJOINT || VARYING) return;
    runs[column][group].end = sum;
    __syncthreads();
    sum = sum_to_last(runs[row][place].end, place);
    const bool writes = inside && place == GROUPS - 1;
    if (!ALONE) {
        // The block that comes last adds up what all blocks of these lanes have left.
        if (writes) relay.partial[(last - 1) * lanes + joined] = sum;
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            ticket = (unsigned int)atomicAdd(relay.done + strip, 1);
            __threadfence();
        }
        __syncthreads();
        if (ticket + 1 != tiles) return;
        sum = Wide{};
        for (long long tile = place; inside && tile < tiles; tile += GROUPS)
            sum = sum + relay.partial[tile * lanes + joined];
        sum = sum_to_last(sum, place);
    }
    if (writes) narrow(sum, slopes[joined]);
}
