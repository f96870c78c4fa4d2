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

// One block of SIDE * ROWS threads per tile of SIDE * SIDE entries, whose mirror image is read in
// rows too.
const int SIDE = 32, ROWS = 8;

struct Tile {
    long long matrix, row, column;

    __device__ Tile(long long n)
    {
        const long long tiles = (n + SIDE - 1) / SIDE, tile = blockIdx.x % (tiles * tiles);
        matrix = blockIdx.x / (tiles * tiles);
        row = tile / tiles * SIDE;
        column = tile % tiles * SIDE;
    }
};

// Y = factor (X + X^H) in a tile of a matrix.
__device__ void symmetrise(const Number* X, Number* Y, long long n, Tile tile, double factor)
{
    __shared__ Number mirror[SIDE][SIDE + 1];
    const int i = threadIdx.x / SIDE, j = threadIdx.x % SIDE;
    for (int k = i; k < SIDE; k += ROWS)
        if (tile.column + k < n && tile.row + j < n)
            mirror[k][j] = X[(tile.column + k) * n + tile.row + j];
    __syncthreads();
    for (int k = i; k < SIDE; k += ROWS)
        if (tile.row + k < n && tile.column + j < n) {
            const long long at = (tile.row + k) * n + tile.column + j;
            Y[at] = factor * (X[at] + conjugate(mirror[j][k]));
        }
}

// Y = a I + factor X in a tile, without X for a null pointer.
__device__ void set_diagonal(const Number* X, Number* Y, long long n, Tile tile, double factor,
                             double a)
{
    const int i = threadIdx.x / SIDE, j = threadIdx.x % SIDE;
    for (int k = i; k < SIDE; k += ROWS)
        if (tile.row + k < n && tile.column + j < n) {
            const long long at = (tile.row + k) * n + tile.column + j;
            Y[at] = number(tile.row + k == tile.column + j ? a : 0);
            if (X) Y[at] = Y[at] + factor * X[at];
        }
}

// Y = (X + X^H) / 2.
extern "C" __global__ void hermitian_part(const Number* __restrict__ X, Number* __restrict__ Y,
                                          long long n)
{
    const Tile tile(n);
    symmetrise(X + tile.matrix * n * n, Y + tile.matrix * n * n, n, tile, 0.5);
}

// Between two steps: X and Y are the Hermitian parts of X0 and Y0, and L = s I, H = d I are there
// for products to be added to. At the start X0 and Y0 are divided by the scale, and K, their
// product, is in L already. `count` matrices each.
extern "C" __global__ void next_step(
    const Number* __restrict__ X0, const Number* __restrict__ Y0, Number* __restrict__ X,
    Number* __restrict__ Y, Number* __restrict__ L, Number* __restrict__ H,
    const Number* __restrict__ K, const double* __restrict__ scale, long long start, long long n,
    long long count, double s, double d)
{
    const Tile tile(n);
    const bool second = tile.matrix >= count;
    const long long entry = second ? tile.matrix - count : tile.matrix, at = entry * n * n;
    const double factor = start ? 1 / scale[entry] : 1;
    symmetrise((second ? Y0 : X0) + at, (second ? Y : X) + at, n, tile, factor / 2);
    const Number* product = start && !second ? K + at : nullptr;
    set_diagonal(product, (second ? H : L) + at, n, tile, factor * factor, second ? d : s);
}
