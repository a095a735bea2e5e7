"""What a job's interactive bash reads before its commands."""

from __future__ import annotations

# An interactive bash ignores SIGTERM: without the trap a cancelled job would go on with its next line. What it starts
# does not inherit the trap, and waits are cut by the same signal, which goes to every process of the job. It would also
# write ~/.bash_history at its end. A ~/.bashrc that sets PATH anew must not take the container wrappers from the front,
# where they stand once.
RCFILE = """exec 2>&1
trap 'exit 143' TERM
if [ -f ~/.bashrc ]; then . ~/.bashrc; fi
unset HISTFILE
case ${SKYSPOOL_WRAPPERS-} in ?*)
  PATH=:$PATH:
  PATH=$SKYSPOOL_WRAPPERS${PATH//":$SKYSPOOL_WRAPPERS:"/:}
  PATH=${PATH%:} ;;
esac
"""
