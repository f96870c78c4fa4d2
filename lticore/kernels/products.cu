// Derivatives of rotation blocks for the gradient G = X A P of a dense A, as rotation_products in
// lticore/hankel/gradients.py derives them: <G, R>, <G, R'> of each block R and G_ii of each real
// pole, for symmetric X and P (batch, n, n). One block of THREADS threads (a macro, a power of two)
// per mode, which share out the modes k of A; the first `pairs` of `modes` are rotation blocks.

__device__ double sum_of_block(double mine)
{
    __shared__ double shared[THREADS];
    __syncthreads();
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    return shared[0];
}

extern "C" __global__ void rotation_products(
    const double* __restrict__ radius, const double* __restrict__ angle,
    const double* __restrict__ poles, const double* __restrict__ X, const double* __restrict__ P,
    double* __restrict__ radial, double* __restrict__ tangential, double* __restrict__ real,
    long long modes, long long pairs)
{
    const long long entry = blockIdx.x / modes, i = blockIdx.x % modes, n = modes + pairs;
    const bool pair = i < pairs;
    const long long row = entry * n + i + (pair ? i : pairs);
    const double *X1 = X + row * n, *P1 = P + row * n;
    // Of a real pole the second row is not looked at.
    const double *X2 = pair ? X1 + n : X1, *P2 = pair ? P1 + n : P1;
    radius += entry * pairs;
    angle += entry * pairs;
    poles += entry * (modes - pairs);

    double along = 0, across = 0;
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
    along = sum_of_block(along);
    across = sum_of_block(across);
    if (threadIdx.x > 0) return;
    if (pair) {
        double sine, cosine;
        sincos(angle[i], &sine, &cosine);
        radial[entry * pairs + i] = along * cosine + across * sine;
        tangential[entry * pairs + i] = across * cosine - along * sine;
    } else {
        real[entry * (modes - pairs) + i - pairs] = along;
    }
}
