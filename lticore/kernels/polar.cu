// What stands between the matrix products of a polar iteration (lticore/matrices/geometric_mean.py).
//
// Matrices are (count, n, n), of the macro COMPLEX complex numbers or real ones.

#if COMPLEX
struct alignas(16) Number { double re, im; };
__device__ inline Number operator+(Number a, Number b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Number operator*(double a, Number b) { return {a * b.re, a * b.im}; }
__device__ inline Number conjugate(Number a) { return {a.re, -a.im}; }
__device__ inline Number number(double a) { return {a, 0.0}; }
#else
typedef double Number;
__device__ inline Number conjugate(Number a) { return a; }
__device__ inline Number number(double a) { return a; }
#endif

// H = a I + b K + c K2; one thread per entry.
extern "C" __global__ void polynomial(const Number* __restrict__ K, const Number* __restrict__ K2,
                                      Number* __restrict__ H, long long count, long long n,
                                      double a, double b, double c)
{
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count * n * n) return;
    const bool on_diagonal = at / n % n == at % n;
    H[at] = number(on_diagonal ? a : 0.0) + (b * K[at] + c * K2[at]);
}

// Y = (X + X^H) / 2. From the matrix `gap` on, those of Y stand as many further on. One block of
// SIDE * ROWS threads per tile of SIDE * SIDE entries, whose mirror image is read in rows too.
const int SIDE = 32, ROWS = 8;

extern "C" __global__ void symmetrise(const Number* __restrict__ X, Number* __restrict__ Y,
                                      long long n, long long gap)
{
    __shared__ Number mirror[SIDE][SIDE + 1];
    const long long tiles = (n + SIDE - 1) / SIDE;
    const long long matrix = blockIdx.x / (tiles * tiles), tile = blockIdx.x % (tiles * tiles);
    const long long row = tile / tiles * SIDE, column = tile % tiles * SIDE;
    X += matrix * n * n;
    Y += (matrix < gap ? matrix : matrix + gap) * n * n;
    const int i = threadIdx.x / SIDE, j = threadIdx.x % SIDE;
    for (int k = i; k < SIDE; k += ROWS)
        if (column + k < n && row + j < n) mirror[k][j] = X[(column + k) * n + row + j];
    __syncthreads();
    for (int k = i; k < SIDE; k += ROWS)
        if (row + k < n && column + j < n) {
            const long long at = (row + k) * n + column + j;
            Y[at] = 0.5 * (X[at] + conjugate(mirror[j][k]));
        }
}
