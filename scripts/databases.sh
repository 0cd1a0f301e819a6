#!/bin/bash
# Private PostgreSQL and MariaDB servers for the store suites, below DIR and on free loopback ports.
#
#   scripts/databases.sh up   [DIR]     starts both; prints `export` lines for a shell:  eval "$(scripts/databases.sh up DIR)"
#   scripts/databases.sh down [DIR]     stops both and removes DIR/postgres and DIR/mariadb
#
# DIR defaults to /var/tmp/umbel-databases-<uid>. `up` twice prints the same lines twice. The URLs carry no database
# name: every test makes a database of its own, and none is cleaned up, because the servers go as a whole.
#
# Root starts the servers as the users their packages made (PostgreSQL refuses to be root), so DIR must be in a
# place those users can reach: below a home directory with mode 0700 they cannot, hence the default.
#
# Settings differ from the packages' in one way that matters: a commit does not wait for the disk (synchronous_commit=off,
# innodb_flush_log_at_trx_commit=2). Both still write ahead and call fsync, only up to a second later; no test crashes
# the server's machine, so none can see the difference, and the suite is several times faster.
set -euo pipefail

die() { echo "databases: $*" >&2; exit 1; }

COMMAND=${1:-}
DIR=${2:-/var/tmp/umbel-databases-$(id -u)}
POSTGRES=/usr/lib/postgresql/15/bin
DEADLINE=60

# Runs a command as the service's own user when we are root, else as ourselves.
as() {
    local user=$1
    shift
    if [ "$(id -u)" = 0 ]; then runuser -u "$user" -- "$@"; else "$@"; fi
}

own() { if [ "$(id -u)" = 0 ]; then chown "$1:" "$2"; fi; }

# From the kernel's table, which is always there; `ss` is not.
port_taken() {
    local hex
    hex=$(printf '%04X' "$1")
    awk -v want=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == want { found = 1 } END { exit !found }' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# Below the range from which the kernel gives ports to outgoing connections, so that none of those sits on it.
free_port() {
    local port
    while :; do
        port=$((20000 + (RANDOM + RANDOM) % 12000))
        if ! port_taken $port; then echo $port; return; fi
    done
}

# Is pid $1 still a process of ours, that is one whose command line names $2? A zombie has no command line.
runs() { [ -n "${1:-}" ] && { tr "\0" " " <"/proc/$1/cmdline" | grep -qF -- "$2"; } 2>/dev/null; }

postgres_pid() { head -1 "$DIR/postgres/data/postmaster.pid" 2>/dev/null || true; }
mariadb_pid() { cat "$DIR/mariadb/pid" 2>/dev/null || true; }

until_true() {
    local what=$1 log=$2 deadline=$((SECONDS + DEADLINE))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            tail -20 "$log" >&2
            die "waited $DEADLINE s for $what; its log is $log."
        fi
        sleep 0.1
    done
}

start_postgres() {
    local dir=$DIR/postgres port
    port=$(free_port)
    rm -rf "$dir"
    mkdir -p "$dir"
    echo "$PASSWORD" >"$dir/password"
    own postgres "$dir"
    own postgres "$dir/password"
    as postgres "$POSTGRES/initdb" -D "$dir/data" -U umbel --auth=scram-sha-256 --pwfile="$dir/password" \
        -E UTF8 --locale=C.UTF-8 --no-sync >"$dir.log" 2>&1 || { tail -5 "$dir.log" >&2; die "initdb failed."; }
    cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 400
shared_buffers = 128MB
fsync = on
synchronous_commit = off
max_wal_size = 2GB
checkpoint_timeout = 30min
autovacuum_naptime = 10min
CONF
    # Descriptors above 2 (a caller's lock or pipe) must not live as long as the server does.
    as postgres "$POSTGRES/pg_ctl" -D "$dir/data" -l "$dir/server.log" -W start >>"$dir.log" 2>&1 3>&- 9>&-
    until_true "PostgreSQL" "$dir/server.log" "$POSTGRES/pg_isready" -q -h 127.0.0.1 -p "$port"
    echo "export UMBEL_TEST_POSTGRES_URL=postgres://umbel:$PASSWORD@127.0.0.1:$port" >"$DIR/postgres.env"
}

start_mariadb() {
    local dir=$DIR/mariadb port
    port=$(free_port)
    rm -rf "$dir"
    mkdir -p "$dir"
    own mysql "$dir"
    # The user is made while the server runs its first statements, before it takes any connection.
    cat >"$dir/init.sql" <<SQL
CREATE USER IF NOT EXISTS 'umbel'@'127.0.0.1' IDENTIFIED BY '$PASSWORD';
GRANT ALL PRIVILEGES ON *.* TO 'umbel'@'127.0.0.1' WITH GRANT OPTION;
SQL
    cat >"$dir/my.cnf" <<CONF
[server]
datadir = $dir/data
socket = $dir/sock
pid-file = $dir/pid
log-error = $dir/server.log
init-file = $dir/init.sql
bind-address = 127.0.0.1
port = $port
skip-name-resolve
skip-log-bin
max_connections = 400
character-set-server = utf8mb4
innodb_buffer_pool_size = 128M
innodb_log_file_size = 64M
innodb_flush_log_at_trx_commit = 2
CONF
    as mysql mariadb-install-db --defaults-file="$dir/my.cnf" --skip-test-db --auth-root-authentication-method=normal \
        >"$dir.log" 2>&1 || { tail -5 "$dir.log" >&2; die "mariadb-install-db failed."; }
    as mysql setsid "$(mariadb_server)" --defaults-file="$dir/my.cnf" >>"$dir.log" 2>&1 </dev/null 3>&- 9>&- &
    until_true "MariaDB" "$dir/server.log" mariadb-admin --no-defaults -h 127.0.0.1 -P "$port" -u umbel -p"$PASSWORD" ping
    echo "export UMBEL_TEST_MARIADB_URL=mysql://umbel:$PASSWORD@127.0.0.1:$port" >"$DIR/mariadb.env"
}

mariadb_server() { command -v mariadbd || echo /usr/sbin/mariadbd; }

both_run() { runs "$(postgres_pid)" "$DIR/postgres" && runs "$(mariadb_pid)" "$DIR/mariadb"; }

require() {
    local missing=
    [ -x $POSTGRES/initdb ] || missing="$missing postgresql-15"
    [ -x "$(mariadb_server)" ] || missing="$missing mariadb-server"
    [ -z "$missing" ] || die "not installed:$missing. Run: scripts/deps.sh test"
}

up() {
    require
    mkdir -p "$DIR"
    DIR=$(cd "$DIR" && pwd)
    exec 9>"$DIR/databases.lock"
    flock 9
    if both_run; then
        cat "$DIR/postgres.env" "$DIR/mariadb.env"
        return
    fi
    stop
    if [ "$(id -u)" = 0 ]; then
        as postgres test -x "$DIR" || die "user postgres cannot reach $DIR: choose a DIR in a place open to other users."
    fi
    PASSWORD=$(tr -d - </proc/sys/kernel/random/uuid)
    start_postgres &
    local postgres=$!
    start_mariadb &
    local mariadb=$! failed=0
    wait $postgres || failed=1
    wait $mariadb || failed=1
    if [ $failed = 1 ]; then stop; exit 1; fi
    cat "$DIR/postgres.env" "$DIR/mariadb.env"
}

# Their data are thrown away, so they need not be asked kindly.
stop_one() {
    local pid=$1 mark=$2 deadline=$((SECONDS + DEADLINE))
    runs "$pid" "$mark" || return 0
    kill -"$3" "$pid" 2>/dev/null || true
    while runs "$pid" "$mark"; do
        [ $SECONDS -lt $deadline ] || die "process $pid does not end."
        sleep 0.05
    done
}

stop() {
    # QUIT is PostgreSQL's immediate shutdown: the postmaster takes its children with it, which after KILL it could not.
    stop_one "$(postgres_pid)" "$DIR/postgres" QUIT
    stop_one "$(mariadb_pid)" "$DIR/mariadb" KILL
    rm -rf "$DIR/postgres" "$DIR/mariadb" "$DIR/postgres.log" "$DIR/mariadb.log" "$DIR/postgres.env" "$DIR/mariadb.env"
}

case $COMMAND in
    up) up ;;
    down)
        [ -d "$DIR" ] || exit 0
        DIR=$(cd "$DIR" && pwd)
        stop
        rm -f "$DIR/databases.lock"
        rmdir "$DIR" 2>/dev/null || true
        ;;
    *) die "use: scripts/databases.sh up|down [DIR]" ;;
esac
