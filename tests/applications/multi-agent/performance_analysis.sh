#!/bin/bash
# performance_analysis.sh - 性能分析脚本

LOG_FILE="/var/log/multi-agent-service/app.log"
TODAY=$(date +%Y-%m-%d)

echo "=== Performance Analysis for $TODAY ==="

echo "API response times (seconds):"
grep "api.request_duration" $LOG_FILE | grep $TODAY | \
  jq '.context.execution_time' | \
  awk '
  {
    sum += $1
    count++
    if ($1 > max) max = $1
    if (min == 0 || $1 < min) min = $1
  }
  END {
    print "Average:", sum/count
    print "Min:", min
    print "Max:", max
  }'

echo -e "\nSlow requests (>5s):"
grep "api.request_duration" $LOG_FILE | grep $TODAY | \
  jq 'select(.context.execution_time > 5) | {time: .timestamp, duration: .context.execution_time, url: .context.url}' | \
  head -10
