#!/bin/bash
# scripts/daily-health-check.sh

echo "🏥 LLMChat 每日健康检查 - $(date)"

# 1. 检查服务状态
echo "📊 检查服务状态..."
curl -f http://localhost:3001/health || {
  echo "❌ 主服务异常"
  exit 1
}

# 2. 检查数据库连接
echo "🗄️ 检查数据库连接..."
curl -f http://localhost:3001/health/db || {
  echo "❌ 数据库连接异常"
  exit 1
}

# 3. 检查Redis连接
echo "🔴 检查Redis连接..."
curl -f http://localhost:3001/health/redis || {
  echo "❌ Redis连接异常"
  exit 1
}

# 4. 检查磁盘空间
echo "💾 检查磁盘空间..."
DISK_USAGE=$(df / | awk 'NR==2 {print $5}' | sed 's/%//')
if [ $DISK_USAGE -gt 80 ]; then
  echo "⚠️ 磁盘使用率过高: ${DISK_USAGE}%"
fi

# 5. 检查内存使用
echo "🧠 检查内存使用..."
MEMORY_USAGE=$(free | awk 'NR==2{printf "%.2f", $3*100/$2}')
if (( $(echo "$MEMORY_USAGE > 80" | bc -l) )); then
  echo "⚠️ 内存使用率过高: ${MEMORY_USAGE}%"
fi

# 6. 检查日志错误
echo "📋 检查错误日志..."
ERROR_COUNT=$(grep -c "ERROR" /var/log/llmchat/app.log 2>/dev/null || echo "0")
if [ $ERROR_COUNT -gt 0 ]; then
  echo "⚠️ 发现 $ERROR_COUNT 个错误"
fi

echo "✅ 每日健康检查完成"
