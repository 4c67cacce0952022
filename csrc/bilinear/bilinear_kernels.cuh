// The resampling engine on CUDA: launch_bilinear_forward, launch_bilinear_backward.
#pragma once

#include "bilinear/bilinear_backward_kernels.cuh"
#include "bilinear/bilinear_forward_kernels.cuh"
