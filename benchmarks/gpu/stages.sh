# What each stage of gpu.sh needs, how long it may take, and what it runs. Sourced by gpu.sh.
# shellcheck shell=bash disable=SC2034,SC2154

# In the order in which they run.
stages=(install tests heads operators memcheck synccheck racecheck initcheck profile ncu compile train)
declare -A limits=(
  [install]=260 [tests]=150 [heads]=140 [operators]=140 [memcheck]=120 [synccheck]=80
  [racecheck]=120 [initcheck]=80 [profile]=110 [ncu]=80 [compile]=140 [train]=120
)
# Programs and modules; `nvcc` and `c++` by any of the names that the build looks for.
declare -A needs=(
  [install]="pip" [tests]="pytest hypothesis" [memcheck]="pytest hypothesis"
  [synccheck]="pytest hypothesis" [racecheck]="pytest hypothesis" [initcheck]="pytest hypothesis"
  [train]="tyro docstring_parser typeguard rich matplotlib PIL safetensors"
)
[ -n "$packed" ] || needs[install]+=" cmake ninja pybind11 scikit_build_core c++"
if [ -z "$packed" ] && { [ "$device" = cuda ] || [ "${FCN_EXT_CUDA:-off}" = on ]; }; then
  needs[install]+=" nvcc"
fi
if [ "$device" = cuda ]; then
  for stage in memcheck synccheck racecheck initcheck; do needs[$stage]+=" compute-sanitizer"; done
  needs[ncu]="ncu"
  needs[compile]="triton"
fi

# The files that come back: summary, logs, and what single stages make; install makes site.tar.
results=(summary.txt logs.tar.gz site.tar heads.json operators.json kernels.json compiled.json)

# The loss at the sizes with the largest promises; brackets make each a pattern of a whole name.
loss_rows=(--filter "[i]nterpolate_cross_entropy/voc-s8/float32"
  --filter "[i]nterpolate_cross_entropy/cityscapes-s4/float32"
  --filter "[i]nterpolate_cross_entropy/ade20k-s4/float32")

# command_of STAGE SECONDS: sets `command`.
command_of() {
  local stage="$1" limit="$2"
  # Each test is named before it runs, and again if it hangs.
  local pytest=("$python" -m pytest -c "$root/pyproject.toml" -p no:cacheprovider --no-header
    --tb=short -o faulthandler_timeout=60)
  # No row starts after four fifths of the time, so that the last one ends within it.
  local bench=("$python" "$root/benchmarks" --device "$device" --time-limit "$((limit * 4 / 5))")
  local races=(--seconds 0.2 --check)
  [ "$device" = cuda ] || races=(--seconds 0.5 --filter voc-s32/float32)
  case "$stage" in
    install) command=(bash "$here/install.sh" "${new_wheels[@]}") ;;
    tests) tests_command ;;
    heads) command=("${bench[@]}" --rows heads --no-compile "${races[@]}" --output "$work/heads.json") ;;
    operators)
      command=("${bench[@]}" --rows operators --no-compile "${races[@]}" --output "$work/operators.json") ;;
    memcheck | synccheck | racecheck | initcheck) sanitizer_command "$stage" ;;
    profile)
      command=("${bench[@]}" --kernels --output "$work/kernels.json")
      [ "$device" = cuda ] || command+=(--filter voc-s32/float32) ;;
    ncu) ncu_command ;;
    compile) # only on rows with a promise: compiling takes longer than all measuring
      local rows="interpolate_cross_entropy/*/float32"
      [ "$device" = cuda ] || rows="[i]nterpolate_cross_entropy/voc-s32/float32"
      command=("${bench[@]}" --rows heads --seconds 0.2 --filter "$rows" --compile "$rows"
        --output "$work/compiled.json")
      [ "$device" = cpu ] || command+=(--check) ;;
    train)
      command=("$python" -m fcn_train train --device "$device" --output "$work/train")
      [ "$device" = cuda ] || command+=(--optim.steps 10 --model.width 0.125 --evaluate-every 0) ;;
  esac
}

# Six processes share a GPU well; together they get at most one thread per core.
tests_command() {
  local cores workers=1
  cores="$(nproc)"
  [ "${facts[xdist]:-no}" = no ] || workers=$((cores < 6 ? cores : 6))
  command=(env OMP_NUM_THREADS="$((cores / workers))" "${pytest[@]}" -v)
  [ "$workers" -eq 1 ] || command+=(-n "$workers")
  if [ "$device" = cuda ]; then
    command+=(--continue-on-collection-errors -m cuda "$root/tests/cuda" "$root/tests/ops"
      "$root"/tests/test_metrics*.py)
  else
    command+=(-m "not cuda" -k "matches_reference and float32" "$root/tests/ops")
  fi
}

# Without a GPU the tests are only collected.
sanitizer_command() {
  local tool="$1"
  command=("${pytest[@]}" -m cuda -k "matches_reference and float32" "$root/tests/ops")
  if [ "$device" = cpu ]; then
    command+=(-q --collect-only)
    return
  fi
  local options=(--tool "$tool" --target-processes application-only --error-exitcode 9
    --print-limit 20)
  # Only this project's kernels, whose mangled names all hold its namespace; but initcheck must see
  # all kernels, or it takes what others have written for uninitialized.
  [ "$tool" = initcheck ] || options+=(--kernel-name kns=fcn_ext)
  # Torch makes API calls that may fail, and continues.
  [ "$tool" != memcheck ] || options+=(--report-api-errors no)
  command=(compute-sanitizer "${options[@]}" "${command[@]}" -v)
  # Without torch's pool every tensor is an allocation of its own, whose end the tool knows.
  case "$tool" in
    memcheck | initcheck) command=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "${command[@]}") ;;
  esac
}

ncu_command() {
  command=("${bench[@]}" --once "${loss_rows[@]}")
  [ "$device" = cuda ] || return 0
  local metrics=gpu__time_duration.sum,sm__cycles_elapsed.max,sm__inst_issued.sum
  metrics+=,dram__bytes_read.sum,dram__bytes_write.sum,sm__warps_active.avg.pct_of_peak_sustained_active
  metrics+=,launch__registers_per_thread,launch__grid_size,launch__block_size
  # Leaves the clocks as they are.
  command=(ncu --clock-control none --target-processes application-only --kernel-name-base mangled
    --kernel-name regex:fcn_ext --metrics "$metrics" --csv --page raw --print-units base
    --log-file "$work/logs/ncu.csv" "${command[@]}")
}
