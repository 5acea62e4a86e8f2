#!/bin/sh
# Starts Redis. What it was writing when it was killed may be at the end of its file in half, inside of a transaction: Redis
# 7.0 cuts the half off but leaves the transaction's begin, and its next start throws away what was acknowledged behind
# that. So the whole of it is cut off before. A file that has anything else wrong with it is not touched: Redis says
# what it is, and does not start.
aof=/data/appendonlydir/appendonly.aof.manifest
if [ -e $aof ]; then
  said=$(redis-check-aof $aof 2>&1) || case $said in
  *"Multi Part AOF"*"Reached EOF before reading EXEC"* | *"Multi Part AOF"*"Expected to read"* | *"Multi Part AOF"*"got: 00"*)
    echo y | redis-check-aof --fix $aof
    ;;
  esac
fi
exec redis-server /etc/redis.conf
