# Runs stages within their time limits and publishes the results after each. Sourced by gpu.sh.
# shellcheck shell=bash disable=SC2034,SC2154

header=() table=()

# Prints in one line what is here, and which stages lack something, before anything slow starts.
look_around() {
  local name key value stage report="" names=() questions=()
  for stage in "${stages[@]}"; do
    [ -n "${wanted[$stage]:-}" ] || continue
    for name in ${needs[$stage]:-}; do names+=("$name"); done
  done
  [ "$device" = cpu ] || [ "$dry_run" = yes ] || questions+=(--gpu)
  [ -z "$wheels" ] || questions+=(--wheels "$wheels")
  while IFS='=' read -r key value; do
    case "$key" in
      wheel) new_wheels+=("$value") ;;
      lacks) lacking+=("$value") ;;
      *) facts["$key"]="$value" ;;
    esac
  done < <(timeout 60 "$python" "$here/probe.py" "${questions[@]}" torch numpy xdist "${names[@]}")
  [ -n "${facts[abi]:-}" ] || refuse "PYTHON: $python does not run $here/probe.py"
  facts[xdist]=yes
  for name in "${!lacking[@]}"; do
    if [ "${lacking[$name]}" = xdist ]; then facts[xdist]=no && unset "lacking[$name]"; fi
  done
  if [ "$dry_run" = no ]; then
    header+=("$(date -u +'%Y-%m-%d %H:%M UTC'), ${facts[gpu]:-no GPU}, $(nproc) cores, $budget s")
    header+=("Python ${facts[python]}, torch ${facts[torch]:-none}")
  fi
  for name in "${lacking[@]}"; do
    report+="${report:+; }$name ($(stages_in_want_of "$name"))"
  done
  [ -z "$report" ] || header+=("missing: $report")
  [ "${#header[@]}" -eq 0 ] || printf '%s\n' "${header[@]}"
}

stages_in_want_of() {
  local stage found=()
  for stage in "${stages[@]}"; do
    if [ -n "${wanted[$stage]:-}" ] && [[ " torch numpy GPU ${needs[$stage]:-} " == *" $1 "* ]]; then
      found+=("$stage")
    fi
  done
  echo "${found[*]}"
}

# why_not STAGE LEFT: prints why the stage does not start, or nothing.
why_not() {
  local stage="$1" left="$2" name missing=()
  for name in "${lacking[@]}"; do
    [[ " torch numpy GPU ${needs[$stage]:-} " != *" $name "* ]] || missing+=("$name")
  done
  if [ "$stage" != install ] && [ "$installed" = no ]; then
    echo "fcn_ext is not installed"
  elif [ "${#missing[@]}" -gt 0 ]; then
    echo "missing: ${missing[*]}"
  elif [ $((left * 3)) -lt "${limits[$stage]}" ]; then
    echo "$((left > 0 ? left : 0)) s left of $budget, it may take ${limits[$stage]}"
  fi
}

# run_stage STAGE: at its limit it is interrupted as from a keyboard, so that pytest still reports
# what failed, and killed 5 s later.
run_stage() {
  local stage="$1" limit="${limits[$1]}" log="$work/logs/$1.log" begin=$SECONDS
  local left=$((budget - SECONDS)) code=0 result reason
  local -a command=() found=()
  if [ "$dry_run" = yes ]; then
    command_of "$stage" "$limit"
    echo "$stage, at most $limit s:$(printf ' %q' "${command[@]}")"
    return
  fi
  reason="$(why_not "$stage" "$left")"
  if [ -n "$reason" ]; then
    all_passed=no
    add_row "$stage" skipped 0 "$limit" "$reason"
    publish
    return
  fi
  [ "$left" -ge "$limit" ] || limit="$left"
  command_of "$stage" "$limit"
  echo "== $stage, at most $limit s:$(printf ' %q' "${command[@]}")" >"$log"
  publish "$(printf '%-10s running since %s' "$stage" "$(date -u +%H:%M:%S)")"
  (cd "$work" && exec timeout --signal=INT --kill-after=5 "$limit" "${command[@]}") \
    >>"$log" 2>&1 </dev/null &
  child=$!
  wait "$child" 2>/dev/null || code=$? # without "Killed" among the rows
  kill -KILL -- "-$child" 2>/dev/null || true # what the stage may have left running
  child=""
  [ ! -f "$work/train/metrics.json" ] || cp "$work/train/metrics.json" "$work/logs/train.json"
  result=passed
  if [ "$code" -eq 124 ] || { [ "$code" -eq 137 ] && [ $((SECONDS - begin)) -ge "$limit" ]; }; then
    result="timed out"
  elif [ "$code" -eq 3 ] && [[ " heads operators compile " == *" $stage "* ]]; then
    result=missed # a promise; the results are right
  elif [ "$code" -ne 0 ]; then
    result=failed
  fi
  mapfile -t found < <("$python" "$here/headline.py" "$stage" "$work" || echo "no headline: see the log")
  # Stages that only seem to have passed, such as a test run without tests.
  if [ "$result" = passed ] && [[ "${found[0]:-}" == nothing* ]]; then result=failed; fi
  [ "$result" = passed ] || all_passed=no
  if [ "$stage" = install ] && [ "$result" = passed ]; then installed=yes; fi
  add_row "$stage" "$result" "$((SECONDS - begin))" "$limit" "${found[@]}"
  [ "$result" != failed ] || { echo "-- the end of $stage.log:"; tail -n 15 "$log"; echo "--"; }
  publish
}

# add_row STAGE RESULT SECONDS LIMIT HEADLINE LINE...
add_row() {
  local row line
  row="$(printf '%-10s %-9s %7d %7d  %s' "$1" "$2" "$3" "$4" "${5:-}")"
  table+=("$row")
  echo "$row"
  for line in "${@:6}"; do
    table+=("           $line")
    echo "           $line"
  done
}

# publish [LINE]: copies all results so far to OUTDIR, each file completely or not at all.
publish() {
  local file
  {
    printf '%s\n' "${header[@]}"
    printf '%-10s %-9s %7s %7s\n' stage result seconds limit
    [ "${#table[@]}" -eq 0 ] || printf '%s\n' "${table[@]}"
    [ $# -eq 0 ] || printf '%s\n' "$@"
  } >"$work/summary.txt"
  tar -C "$work" -czf "$work/logs.tar.gz" logs
  for file in "${results[@]}"; do
    if [ "$work/$file" -nt "$outdir/$file" ]; then
      cp "$work/$file" "$outdir/.part"
      mv "$outdir/.part" "$outdir/$file"
    fi
  done
}

# On a signal: ends the stage and the script, and publishes what the stage found so far.
stop() {
  trap '' INT TERM
  [ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true
  [ "$dry_run" = yes ] || [ ! -d "$outdir" ] || publish "stopped by a signal"
  exit "$1"
}
