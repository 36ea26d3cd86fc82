#!/usr/bin/env bash
# One node of a cluster in the foreground, for containers and for satmeter-node@.service:
#   node.sh head [options of ray start]     Ray's head, without a server
#   node.sh server [options of ray start]   joins the Ray cluster at RAY_ADDRESS, and serves
#   node.sh both [options of ray start]     Ray's head, at RAY_ADDRESS, which serves as well
# On SIGTERM the server drains its node first (15 s at most), then Ray ends. When one of the two ends by itself, so does
# the other, and the exit status is not 0: the container runtime's restart policy starts both again.
set -euo pipefail

refuse() {
    echo "node.sh: $*" >&2
    exit 2
}

role=${1:-}
shift || true
case "$role" in head | server | both) ;; *) refuse "say which node this is: head, server or both" ;; esac

# A program that reaches Ray's ports can run code in its processes, which hold all keys.
[ "${RAY_AUTH_MODE:-}" = token ] || refuse "set RAY_AUTH_MODE=token, on every node of the cluster"
[ -n "${RAY_AUTH_TOKEN:-}" ] || [ -s "${RAY_AUTH_TOKEN_PATH:-}" ] ||
    refuse "set RAY_AUTH_TOKEN, the same on every node (openssl rand -hex 32), or RAY_AUTH_TOKEN_PATH to a file with it"
if [ "$role" != head ]; then
    [ -n "${RAY_ADDRESS:-}" ] || refuse "set RAY_ADDRESS to HOST:PORT of Ray's head"
    [ -n "${REDIS_URL:-}${REDIS_URL_FILE:-}" ] || refuse "set REDIS_URL to the store that all nodes share"
    [ -n "${MACAROON_ROOT_KEY:-}${MACAROON_ROOT_KEY_FILE:-}" ] ||
        refuse "set MACAROON_ROOT_KEY, the same on every node (openssl rand -hex 32): a key of each node's own would" \
            "make credentials of one node worthless on the next"
fi
if [ "$role" != server ] && [ -n "${RAY_REDIS_ADDRESS:-}" ] && [ -n "${VALKEY_PASSWORD:-}" ] &&
    [ -z "${RAY_REDIS_PASSWORD:-}${RAY_REDIS_PASSWORD_FILE:-}${REDIS_PASSWORD:-}" ]; then
    refuse "set RAY_REDIS_USERNAME and RAY_REDIS_PASSWORD to a user of Ray's own in the store, by ray-store-user.acl:" \
        "with VALKEY_PASSWORD Ray would reach all money"
fi

export RAY_USAGE_STATS_ENABLED=0
# Ray would wait 30 s for a node to become idle, longer than containers are given to stop; the server has drained by then.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
ulimit -n "$(ulimit -Hn)"

# Ray and all that it starts do without the server's keys: its processes ask the server for theirs.
keyless=(env)
for name in LNBITS_INVOICE_KEY LNBITS_ADMIN_KEY LND_MACAROON PHOENIXD_PASSWORD NWC_URL ANTHROPIC_API_KEY \
    MACAROON_ROOT_KEY MACAROON_ROOT_KEY_PREVIOUS OPERATOR_TOKEN REDIS_URL VALKEY_PASSWORD; do
    keyless+=(-u "$name")
done
# The server does without the passwords of the store's other users.
serving=(env -u VALKEY_PASSWORD -u RAY_REDIS_PASSWORD -u REDIS_PASSWORD)
[ "$role" != server ] || keyless+=(-u RAY_REDIS_PASSWORD -u REDIS_PASSWORD)

# Ray takes the login of its store (RAY_REDIS_ADDRESS) as options alone, which all can read: `satmeter ray-head` hides it.
if [ -n "${KUBERAY_GEN_RAY_START_CMD:-}" ]; then
    # KubeRay's own command, which refers to variables: a shell has to read it.
    command=$KUBERAY_GEN_RAY_START_CMD
    if [[ $command == *REDIS_PASSWORD* ]]; then
        command=$(sed -E 's/^ray start --head/satmeter ray-head/; s/ --redis-(username|password)=[^ ]*//g' <<<"$command")
        [[ $command == "satmeter ray-head"* ]] || refuse "KubeRay starts Ray's head in a way that is not known here"
        export RAY_REDIS_USERNAME=${REDIS_USERNAME:-} RAY_REDIS_PASSWORD=${REDIS_PASSWORD:-}
        keyless+=(-u REDIS_PASSWORD)
    fi
    ray=(bash -c "exec $command")
elif [ "$role" = server ]; then
    # The object store stays at Ray's smallest: messages travel inline, and nothing of ours is ever put there.
    ray=(ray start --block --object-store-memory 83886080 --address "$RAY_ADDRESS" "$@")
else
    ray=(satmeter ray-head --block --object-store-memory 83886080 --port 6379 --include-dashboard=false "$@")
fi
[ "$role" != head ] || exec "${keyless[@]}" "${ray[@]}"

told=
server_pid=
tell_server() { [ -z "$server_pid" ] || kill -TERM "$server_pid" 2>/dev/null || true; }
trap 'told=1; tell_server' TERM INT
"${keyless[@]}" "${ray[@]}" &
ray_pid=$!
# It waits for the node that is just starting, up to a minute.
"${serving[@]}" satmeter serve --ray-address "$RAY_ADDRESS" &
server_pid=$!
[ -z "$told" ] || tell_server

# A signal ends `wait` early: what counts is that both live.
while kill -0 "$server_pid" 2>/dev/null && kill -0 "$ray_pid" 2>/dev/null; do
    wait -n "$server_pid" "$ray_pid" || true
done
ended() {
    while kill -0 "$1" 2>/dev/null; do wait "$1" || true; done
}
if kill -0 "$server_pid" 2>/dev/null; then
    echo "node.sh: Ray ended by itself, ending the server" >&2
    tell_server
    ended "$server_pid"
    exit 1
fi
status=0
wait "$server_pid" || status=$?
[ -n "$told" ] || echo "node.sh: the server ended by itself (status $status), ending Ray" >&2
kill -TERM "$ray_pid" 2>/dev/null || true
ended "$ray_pid"
[ -n "$told" ] || [ "$status" -ne 0 ] || status=1
exit "$status"
