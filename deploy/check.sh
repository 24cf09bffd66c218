#!/usr/bin/env bash
# Checks what can be checked of deploy/ without a container engine, with the tools that are there, and says what it left out.
#
#   deploy/check.sh             files only
#   deploy/check.sh BINARY      and with that server: its health check, a cluster around NATS, edges behind the load balancer
#
# Tools (Debian's packages): promtool (prometheus), haproxy, nats-server, systemd-analyze (systemd), docker with compose;
# python3, for YAML with the package pyyaml and for BINARY with websockets: PYTHON names another interpreter.
set -euo pipefail
binary=${1:+$(realpath "$1")}
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=() left_out=()

check() { # check WHAT COMMAND...: runs it, shows its output only if it fails
  local what=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    printf '  ok      %s\n' "$what"
  else
    printf '  FAILED  %s\n' "$what"
    sed 's/^/          /' "$work/output"
    failed+=("$what")
  fi
}

has() { # has COMMAND WHAT: whether COMMAND is there; what is left out without it is said at the end
  command -v "$1" >/dev/null 2>&1 || { left_out+=("$2: no $1"); return 1; }
}

python_has() { "$python" -c "import $1" 2>/dev/null || { left_out+=("$2: $python has no $1"); return 1; }; }

known() { # known PATTERN FILE...: every word of FILEs that matches PATTERN is a string in src/
  local pattern=$1 word unknown=0
  shift
  for word in $(grep -ohE "$pattern" "$@" | sed -E 's/_(bucket|sum|count)$//' | sort -u); do
    if grep -rqF "\"$word\"" ../src; then continue; fi
    echo "$word is not in src/"
    unknown=1
  done
  return "$unknown"
}

expressions() { # of the dashboard as rules, with its variables filled in, so that promtool parses them
  "$python" - grafana/tickcast.json <<'PYTHON'
import json, sys
dashboard = json.load(open(sys.argv[1]))
found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
found += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
assert found and dashboard["uid"] == "tickcast"
fill = lambda text: text.replace("$__rate_interval", "1m").replace("$job", "tickcast").replace("$instance", ".*")
rules = [{"record": f"panel:{number}", "expr": fill(text)} for number, text in enumerate(found)]
print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
PYTHON
}

dashboard() { expressions >"$work/dashboard.yml" && promtool check rules "$work/dashboard.yml"; }

tests() { (cd prometheus && promtool test rules alerts_test.yml); }

tested() { # every alert has a test that says when it fires
  local alert missing=0
  for alert in $(grep -oP '(?<=- alert: )\w+' prometheus/alerts.yml); do
    grep -q "$alert" prometheus/alerts_test.yml || { echo "$alert has no test"; missing=1; }
  done
  return "$missing"
}

balancer() {
  EDGE_1=127.0.0.1:9001 EDGE_2=127.0.0.1:9002 LB_SOCKET=$work/admin.sock "$@" haproxy -c -f haproxy/haproxy.cfg
}

units() { # elsewhere, because the programs that they start need not be installed
  cp systemd/tickcast.socket "$work"
  sed -E 's#^ExecStart=.*#ExecStart=/bin/true#' systemd/tickcast.service >"$work/tickcast.service"
  # A key that it does not know is a warning to it.
  systemd-analyze verify --man=no "$work/tickcast.service" "$work/tickcast.socket" 2>&1 | tee "$work/verify"
  ! grep -F "$work" "$work/verify"
}

context() { # what Dockerfile.dockerignore lets in is a workspace for cargo
  local entry
  mkdir "$work/context"
  sed -n 's/^!//p' Dockerfile.dockerignore | while read -r entry; do
    git -C .. ls-files -z --cached --others --exclude-standard "$entry" | (cd .. && xargs -0 cp --parents -t "$work/context")
  done
  cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$work/context/Cargo.toml"
}

yaml() {
  "$python" - "$@" <<'PYTHON'
import sys, yaml
for path in sys.argv[1:]:
    assert yaml.safe_load(open(path)), path
compose = yaml.safe_load(open("compose.yaml"))
for name, service in compose["services"].items():
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./"):
            open(source) if "." in source.rsplit("/", 1)[1] else __import__("os").listdir(source)
        elif not source.startswith("/"):
            assert source in compose["volumes"], f"{name}: no volume {source}"
    for other in service.get("depends_on", []):
        assert other in compose["services"], f"{name}: no service {other}"
PYTHON
}

health() { # the HEALTHCHECK of the Dockerfile, at a server and where there is none
  local probe server status
  probe=$("$python" -c 'import re; text = open("Dockerfile").read()
print(re.search(r"\"-c\", \\\n\s*\"(.*)\"\]", text).group(1).replace("\\\\", "\\"))')
  "$binary" serve --listen 127.0.0.1:0 --source none 2>"$work/server" &
  server=$!
  for _ in $(seq 100); do grep -q listening "$work/server" && break; sleep 0.05; done
  probe=${probe//8080/$(grep -oP '(?<=http://127.0.0.1:)\d+' "$work/server" | head -1)}
  bash -c "$probe"
  status=$?
  kill "$server" && wait "$server" || true
  [ "$status" = 0 ] && ! bash -c "$probe"
}

echo "files"
check "shell" bash -n check.sh
check "environment of the nodes is what src/config reads" known '\b(TICKCAST|WS)_[A-Z_]+[A-Z]\b' <(
  grep -hvE '^\s*#' compose.yaml Dockerfile | sed 's/\${[^}]*}//g')
check "metrics of dashboard and alerts are what the server counts" \
  known 'tickcast_[a-z_]+' grafana/tickcast.json prometheus/alerts.yml prometheus/alerts_test.yml
check "every alert is tested" tested
if python_has yaml "YAML and what compose.yaml refers to"; then
  check "YAML, and what compose.yaml refers to" yaml compose.yaml prometheus/*.yml grafana/provisioning/*/*.yaml
fi
if has cargo "the context of the image"; then check "the image's context is a workspace" context; fi

echo "tools"
if has promtool "Prometheus, alerts and dashboard"; then
  check "prometheus.yml, alerts.yml" promtool check config prometheus/prometheus.yml
  check "alerts fire when they should" tests
  check "the dashboard's expressions" dashboard
fi
if has haproxy "the load balancer's configuration"; then
  check "haproxy.cfg" balancer env
  check "haproxy.cfg with the PROXY protocol" balancer env LB_PROXY_PROTOCOL=1
fi
if has nats-server "the configuration of NATS"; then
  check "nats-server.conf" env NATS_ORIGIN_PASSWORD=a NATS_EDGE_PASSWORD=b nats-server -c nats/nats-server.conf -t
fi
if has systemd-analyze "the units"; then check "tickcast.service, tickcast.socket" units; fi
if docker compose version >/dev/null 2>&1; then
  check "compose.yaml" docker compose -f compose.yaml config --quiet
else
  left_out+=("docker compose config: no docker compose")
fi
left_out+=("building the image, pulling images, starting compose.yaml: need a container engine" \
  "sysctl/90-tickcast.conf, tickcast.service at work: need a machine of their own")

if [ -n "$binary" ]; then
  echo "with $binary"
  check "the health check of the image" health
  if has nats-server "a cluster around NATS"; then
    check "a cluster around NATS" "$python" cluster_test.py "$binary"
    sed 's/^/        /' "$work/output"
  fi
  if has haproxy "two edges behind the load balancer" && python_has websockets "two edges behind the load balancer"; then
    check "two edges behind the load balancer" "$python" balancer_test.py "$binary"
    sed 's/^/        /' "$work/output"
  fi
else
  left_out+=("the health check, a cluster around NATS, two edges behind the load balancer: no BINARY was given")
fi

echo "left out"
printf '  %s\n' "${left_out[@]}"
if [ "${#failed[@]}" -gt 0 ]; then
  printf 'deploy/check.sh: %s failed\n' "${#failed[@]}" >&2
  exit 1
fi
