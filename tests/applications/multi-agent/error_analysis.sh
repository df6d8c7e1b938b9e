#!/bin/bash
# error_analysis.sh - 错误分析脚本

LOG_FILE="/var/log/multi-agent-service/app.log"
TODAY=$(date +%Y-%m-%d)

echo "=== Error Analysis for $TODAY ==="

echo "Total errors:"
grep "ERROR" $LOG_FILE | grep $TODAY | wc -l

echo -e "\nTop error types:"
grep "ERROR" $LOG_FILE | grep $TODAY | \
  jq -r '.message' | \
  sort | uniq -c | sort -nr | head -10

echo -e "\nError timeline (hourly):"
grep "ERROR" $LOG_FILE | grep $TODAY | \
  jq -r '.timestamp' | \
  cut -d'T' -f2 | cut -d':' -f1 | \
  sort | uniq -c
