// The resampling engine on CUDA: launch_bilinear_forward, launch_bilinear_backward.
#pragma once

#include "bilinear/cuda/backward_kernels.cuh"
#include "bilinear/cuda/forward_kernels.cuh"
