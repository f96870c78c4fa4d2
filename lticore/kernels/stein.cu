// A X B^H - X + Q = 0 for state matrices given by the polar forms of their poles.
//
// One block per row (of modes) of X, its threads side by side along the row.

const double PI = 3.141592653589793;

struct alignas(16) Complex { double re, im; };

__device__ inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }

// z / (1 - w) for |w| = rho sigma and arg w = phase. With g = 1 - rho and h = 1 - sigma,
//   1 - w = (g + h - g h) + 2 rho sigma sin^2(phase / 2) - i rho sigma sin(phase),
// where nothing cancels next to w = 1.
__device__ inline Complex divide(Complex z, double rho, double sigma, double phase)
{
    const double g = 1 - rho, h = 1 - sigma, modulus = rho * sigma;
    double sine, cosine;
    sincos(phase / 2, &sine, &cosine);
    const double re = (g + h - g * h) + 2 * modulus * sine * sine;
    const double im = -2 * modulus * sine * cosine;
    const double scale = 1 / (re * re + im * im);
    return {(z.re * re + z.im * im) * scale, (z.im * re - z.re * im) * scale};
}

// X_ij = Q_ij / (1 - lambda_i conj mu_j) for Q (batch, n, l); one block per row.
extern "C" __global__ void diagonal_stein(
    const double* __restrict__ radius_a, const double* __restrict__ phase_a,
    const double* __restrict__ radius_b, const double* __restrict__ phase_b,
    const Complex* __restrict__ Q, Complex* __restrict__ X, long long n, long long l)
{
    const long long row = blockIdx.x, first = row / n * l;
    const double rho = radius_a[row], theta = phase_a[row];
    for (long long j = threadIdx.x; j < l; j += blockDim.x) {
        const long long b = first + j, at = row * l + j;
        X[at] = divide(Q[at], rho, radius_b[b], theta - phase_b[b]);
    }
}

// The same for real matrices: the first p modes are rotation blocks z -> lambda z of two states,
// z = x_1 + i x_2, the others real poles. There are `modes_a` and `modes_b` modes, of which
// `pairs_a` and `pairs_b` are rotation blocks. One block per mode of A.
extern "C" __global__ void rotation_stein(
    const double* __restrict__ radius_a, const double* __restrict__ phase_a,
    const double* __restrict__ radius_b, const double* __restrict__ phase_b,
    const double* __restrict__ Q, double* __restrict__ X,
    long long modes_a, long long pairs_a, long long modes_b, long long pairs_b)
{
    const long long mode = blockIdx.x, entry = mode / modes_a, i = mode % modes_a;
    const long long l = modes_b + pairs_b;
    // The first state of mode i is 2 i for a pair, and for a real pole i plus the number of pairs.
    const long long row = entry * (modes_a + pairs_a) + i + (i < pairs_a ? i : pairs_a);
    const double rho = radius_a[mode], theta = phase_a[mode];
    for (long long j = threadIdx.x; j < modes_b; j += blockDim.x) {
        const double sigma = radius_b[entry * modes_b + j], eta = phase_b[entry * modes_b + j];
        const long long at = row * l + j + (j < pairs_b ? j : pairs_b), below = at + l;
        if (i < pairs_a && j < pairs_b) {
            // A block Y is z -> (a z + b conj z)/2 with the complex numbers a and b below; the
            // equation multiplies a by lambda conj mu and b by lambda mu.
            const double Q11 = Q[at], Q12 = Q[at + 1], Q21 = Q[below], Q22 = Q[below + 1];
            const Complex a = divide({Q11 + Q22, Q21 - Q12}, rho, sigma, theta - eta);
            const Complex b = divide({Q11 - Q22, Q21 + Q12}, rho, sigma, theta + eta);
            const Complex sum = a + b, difference = a - b;
            X[at] = sum.re / 2;
            X[at + 1] = -difference.im / 2;
            X[below] = sum.im / 2;
            X[below + 1] = difference.re / 2;
        } else if (i < pairs_a) {
            const Complex z = divide({Q[at], Q[below]}, rho, sigma, theta - eta);
            X[at] = z.re;
            X[below] = z.im;
        } else if (j < pairs_b) {
            // Conjugate to the case above, and with the same rounding.
            const Complex z = divide({Q[at], Q[at + 1]}, rho, sigma, eta - theta);
            X[at] = z.re;
            X[at + 1] = z.im;
        } else {
            X[at] = divide({Q[at], 0.0}, rho, sigma, theta - eta).re;
        }
    }
}

// (radius >= 0, phase) of the pole by which each of q rotation blocks acts on x_1 + i x_2, then of k
// real poles; one thread per pole.
extern "C" __global__ void block_poles(
    const double* __restrict__ radius, const double* __restrict__ angle,
    const double* __restrict__ real_poles, double* __restrict__ modulus,
    double* __restrict__ phase, long long q, long long k, long long count)
{
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const long long entry = at / (q + k), i = at % (q + k);
    const double pole = i < q ? radius[entry * q + i] : real_poles[entry * k + i - q];
    modulus[at] = fabs(pole);
    phase[at] = (i < q ? -angle[entry * q + i] : 0) + (pole < 0 ? PI : 0);
}
