// Enough of CUDA to run a kernel's text on a CPU: blocks one after another, last one first, the
// threads of a block as fibers that take turns from barrier to barrier. The turns go up and down
// alternately, so that a missing barrier shows in one direction or the other.
#include <math.h>
#include <stdlib.h>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct Index { unsigned int x; };
static Index blockIdx, blockDim, threadIdx;

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

template <auto kernel> void launch(unsigned int grid, unsigned int block, void** values)
{
    if (block > MOST_THREADS) abort();
    arguments = values;
    blockDim.x = block;
    for (blockIdx.x = grid; blockIdx.x-- > 0;) run_block(Thread<kernel>::run);
}
}  // namespace emulation

inline void __syncthreads()
{
    const unsigned int thread = threadIdx.x;
    swapcontext(&emulation::fibers[thread].context, &emulation::scheduler);
}
inline void __threadfence() {}
inline int atomicAdd(int* address, int value) { return std::exchange(*address, *address + value); }
