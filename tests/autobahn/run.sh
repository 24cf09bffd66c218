#!/usr/bin/env bash
# The Autobahn test suite against the server's sessions, which send back what they are sent (feature `echo`).
#
#   tests/autobahn/run.sh                        sections 1 to 7, 9 and 10
#   tests/autobahn/run.sh --sections 6,9.1,12.*  these
#   tests/autobahn/run.sh --no-install           with what is there already
#
# A line a section, the total in the last line; reports in target/autobahn. Exit status 1 if a case failed, or is not
# strict outside 6.4. Without Python 2.7, for which the suite is written, it is left out with a word and status 0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=tests/autobahn
target=${CARGO_TARGET_DIR:-target}

sections=1,2,3,4,5,6,7,9,10
install=yes
while [ $# -gt 0 ]; do
  case $1 in
    --sections) sections=${2:?--sections needs a list, such as 1,6.4,9.*}; shift ;;
    --no-install) install=no ;;
    *) echo "run.sh: unknown option $1; --sections LIST and --no-install are known" >&2; exit 2 ;;
  esac
  shift
done

python27() { # prints the first Python 2.7 there is
  local candidate
  for candidate in "${PYTHON27:-}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python python2.7 pypy; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

install_suite() { # into .venv, unless what the lock says is there
  local python log=$here/.venv/install.log
  cmp -s $here/requirements.txt $here/.venv/installed.txt && return
  python=$(python27) || { echo "left out: no Python 2.7"; exit 0; }
  [ $install = yes ] || { echo "left out: the suite is not installed"; exit 0; }
  echo "installing the suite for $python"
  rm -rf $here/.venv
  mkdir $here/.venv
  { # The last virtualenv that makes environments of Python 2.7; it needs a newer one itself.
    python3 -m venv $here/.venv/maker &&
      $here/.venv/maker/bin/python -m pip install -q --disable-pip-version-check virtualenv==20.21.1 &&
      $here/.venv/maker/bin/virtualenv -q -p "$python" $here/.venv/suite &&
      $here/.venv/suite/bin/python -m pip install -q -r $here/requirements.txt &&
      $here/.venv/suite/bin/wstest --autobahnversion
  } >"$log" 2>&1 || { tail "$log" >&2; exit 1; }
  cp $here/requirements.txt $here/.venv/installed.txt
}

install_suite
cargo build --locked --features echo --example echo
mkdir -p "$target/autobahn"
"$target/debug/examples/echo" --listen 127.0.0.1:0 --max-message-size 32MiB 2>"$target/autobahn/server.log" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
until url=$(sed -n 's/^echo on //p' "$target/autobahn/server.log") && [ -n "$url" ]; do
  kill -0 $server 2>/dev/null || { cat "$target/autobahn/server.log" >&2; exit 1; }
  sleep 0.05
done
status=0
$here/.venv/suite/bin/python $here/run.py "$url" "$sections" "$target/autobahn" || status=$?
kill -0 $server || { echo "the server has ended:"; cat "$target/autobahn/server.log"; exit 1; } >&2
if grep -n panicked "$target/autobahn/server.log" >&2; then exit 1; fi
exit $status
