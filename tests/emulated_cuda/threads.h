// A program that runs a kernel's text with one thread of the CPU for each of CUDA's, all blocks at
// once, for ThreadSanitizer to watch. Flags are volatile, and not watched: what stands before a fence
// and a flag that is then raised comes before what stands after a look at the flag and a fence.
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)

struct Index { unsigned int x; };
static Index gridDim, blockDim;
static thread_local Index blockIdx, threadIdx;

// Compiled with --param tsan-distinguish-volatile=1, so that these are called.
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
static thread_local bool fenced;  // since this thread last raised a flag
static thread_local std::vector<void*> seen;  // flags since its last fence
static void raise_flag(void* flag)
{
    if (fenced) __tsan_release(flag);
    fenced = false;
}
extern "C" void __tsan_volatile_write4(void* flag) { raise_flag(flag); }
extern "C" void __tsan_volatile_read4(void* flag)
{
    if (seen.empty() || seen.back() != flag) seen.push_back(flag);
    sched_yield();  // who waits lets others run
}

namespace emulation {
const unsigned int WARP = 32, VARIABLES = 8, BYTES = 1 << 15;
struct Block {
    pthread_barrier_t barrier;
    std::vector<pthread_barrier_t> warps;
    std::vector<double> exchanged;
    alignas(64) char shared[VARIABLES][BYTES];
};
static std::vector<Block> blocks;
static void** arguments;

// A variable of __shared__ memory; bits that mean no number until it is written.
template <class T> T& shared(unsigned int variable)
{
    static_assert(sizeof(T) <= BYTES);
    return *reinterpret_cast<T*>(blocks[blockIdx.x].shared[variable % VARIABLES]);
}

template <class... P, size_t... I>
void call(void (*kernel)(P...), std::index_sequence<I...>)
{
    kernel(*static_cast<P*>(arguments[I])...);
}

template <class... P> void launch(void (*kernel)(P...))
{
    const unsigned int threads = blockDim.x, warps = (threads + WARP - 1) / WARP;
    blocks = std::vector<Block>(gridDim.x);
    for (Block& block : blocks) {
        pthread_barrier_init(&block.barrier, nullptr, threads);
        block.warps.resize(warps);
        block.exchanged.resize(threads);
        for (unsigned int w = 0; w < warps; ++w) {
            const unsigned int rest = threads - w * WARP;
            pthread_barrier_init(&block.warps[w], nullptr, rest < WARP ? rest : WARP);
        }
        memset(block.shared, 255, sizeof block.shared);
    }
    std::vector<std::thread> running;
    for (unsigned int b = 0; b < gridDim.x; ++b)
        for (unsigned int t = 0; t < threads; ++t)
            running.emplace_back([=] {
                blockIdx.x = b;
                threadIdx.x = t;
                call(kernel, std::index_sequence_for<P...>());
            });
    for (std::thread& thread : running) thread.join();
}

inline double exchange(double value, unsigned int mask, int from, int width)
{
    Block& block = blocks[blockIdx.x];
    const unsigned int me = threadIdx.x, first = me - me % (unsigned int)width;
    if (mask != 0xffffffff || width < 1 || width > 32) abort();
    block.exchanged[me] = value;
    pthread_barrier_wait(&block.warps[me / WARP]);
    const double other = from < 0 ? value : block.exchanged[first + (unsigned int)from];
    pthread_barrier_wait(&block.warps[me / WARP]);
    return other;
}
}  // namespace emulation

inline void __syncthreads() { pthread_barrier_wait(&emulation::blocks[blockIdx.x].barrier); }
inline void __threadfence()
{
    for (void* flag : seen) __tsan_acquire(flag);
    seen.clear();
    fenced = true;
}
inline int atomicAdd(int* address, int value)
{
    raise_flag(address);
    const int before = __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
    seen.push_back(address);
    return before;
}
inline double __shfl_up_sync(unsigned int mask, double value, int places, int width)
{
    const int place = (int)(threadIdx.x % (unsigned int)width);
    return emulation::exchange(value, mask, place - places, width);
}
inline double __shfl_sync(unsigned int mask, double value, int place, int width)
{
    return emulation::exchange(value, mask, place, width);
}

// A launch stands in a file as 64-bit numbers: grid, block, and for each argument the bytes of an
// array, which follow, or -1 and a value. The arrays go back into it.
static void run_kernel(const char* name);

int main(int, char** words)
{
    FILE* file = fopen(words[2], "r+b");
    long long head[3];
    if (!file || fread(head, sizeof head, 1, file) != 1) abort();
    gridDim.x = (unsigned int)head[0];
    blockDim.x = (unsigned int)head[1];
    const size_t count = (size_t)head[2];
    std::vector<long long> sizes(count), values(count);
    std::vector<void*> arrays(count), pointers(count);
    for (size_t i = 0; i < count; ++i) {
        if (fread(&sizes[i], 8, 1, file) != 1) abort();
        const bool is_array = sizes[i] >= 0;
        arrays[i] = is_array ? aligned_alloc(64, ((size_t)sizes[i] / 64 + 1) * 64) : nullptr;
        pointers[i] = is_array ? (void*)&arrays[i] : (void*)&values[i];
        void* target = is_array ? arrays[i] : (void*)&values[i];
        const size_t size = is_array ? (size_t)sizes[i] : 8;
        if (size && fread(target, size, 1, file) != 1) abort();
    }
    emulation::arguments = pointers.data();
    run_kernel(words[1]);
    rewind(file);
    for (size_t i = 0; i < count; ++i)
        if (sizes[i] > 0) fwrite(arrays[i], (size_t)sizes[i], 1, file);
    fclose(file);
}
