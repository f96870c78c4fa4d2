// Enough of CUDA to run a kernel's text on a CPU: blocks one after another, last one first, the
// threads of a block as fibers that take turns from barrier to barrier. The turns go up and down
// alternately, so that a missing barrier shows in one direction or the other.
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct Index { unsigned int x; };
static Index gridDim, blockIdx, blockDim, threadIdx;

namespace emulation {
const unsigned int MOST_THREADS = 1024;
const size_t STACK = 1 << 16;
struct Fiber { ucontext_t context; void* stack; bool done; };
static Fiber fibers[MOST_THREADS];
static ucontext_t scheduler;
static void** arguments;  // pointers to the values, as for cudaLaunchKernel

// Calls the kernel for one thread; the fiber ends with it.
template <auto kernel> struct Thread;
template <class... P, void (*kernel)(P...)> struct Thread<kernel> {
    template <size_t... I> static void call(std::index_sequence<I...>)
    {
        kernel(*static_cast<P*>(arguments[I])...);
    }
    static void run()
    {
        call(std::index_sequence_for<P...>());
        Fiber& fiber = fibers[threadIdx.x];
        fiber.done = true;
        swapcontext(&fiber.context, &scheduler);
    }
};

static void run_block(void (*thread)())
{
    for (unsigned int t = 0; t < blockDim.x; ++t) {
        Fiber& fiber = fibers[t];
        if (!fiber.stack) fiber.stack = malloc(STACK);
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack;
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, thread, 0);
    }
    bool running = true;
    for (int turn = 0; running; ++turn) {
        running = false;
        for (unsigned int i = 0; i < blockDim.x; ++i) {
            threadIdx.x = turn % 2 ? i : blockDim.x - 1 - i;
            Fiber& fiber = fibers[threadIdx.x];
            if (!fiber.done) swapcontext(&scheduler, &fiber.context);
            running = running || !fiber.done;
        }
    }
}

static void wait_for_turn() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

// Outside of its arrays, between guard pages, a kernel ends at once.
static ucontext_t leaving;
static volatile bool left;
static void leave(int)
{
    left = true;
    setcontext(&leaving);
}

// Blocks from `first` on; whether all stayed inside their arrays.
template <auto kernel>
bool launch(unsigned int grid, unsigned int block, void** values, unsigned int first)
{
    if (block > MOST_THREADS) abort();
    arguments = values;
    gridDim.x = grid;
    blockDim.x = block;
    left = false;
    struct sigaction ours = {}, theirs;
    ours.sa_handler = leave;
    ours.sa_flags = SA_NODEFER;
    sigaction(SIGSEGV, &ours, &theirs);
    getcontext(&leaving);
    if (!left)
        for (blockIdx.x = grid; blockIdx.x-- > first;) run_block(Thread<kernel>::run);
    sigaction(SIGSEGV, &theirs, nullptr);
    return !left;
}

// What another thread of the warp, or of its part of `width` threads, has for `value`.
template <class T> T exchange(T value, unsigned int mask, int from, int width)
{
    static T values[MOST_THREADS];
    const unsigned int me = threadIdx.x, first = me - me % (unsigned int)width;
    if (mask != 0xffffffff || width < 1 || width > 32) abort();
    values[me] = value;
    wait_for_turn();
    const T other = from < 0 ? value : values[first + (unsigned int)from];
    wait_for_turn();
    return other;
}
}  // namespace emulation

inline void __syncthreads() { emulation::wait_for_turn(); }
inline void __threadfence() {}
inline int atomicAdd(int* address, int value) { return std::exchange(*address, *address + value); }
template <class T> T __shfl_up_sync(unsigned int mask, T value, int places, int width)
{
    const int place = (int)(threadIdx.x % (unsigned int)width);
    return emulation::exchange(value, mask, place - places, width);
}
template <class T> T __shfl_sync(unsigned int mask, T value, int place, int width)
{
    return emulation::exchange(value, mask, place, width);
}
