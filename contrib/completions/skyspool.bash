# Completion of skyspool and spoold for bash 4.4 and newer: verbs, options, clusters, jobs, task files.
#
#     cp skyspool.bash ~/.local/share/bash-completion/completions/skyspool
#     ln -s skyspool ~/.local/share/bash-completion/completions/spoold
#
# No Python is started: clusters are read from the configuration, jobs from the names of the spool's files.
# tests/contrib/test_completions.py holds the lists against the real command lines.
# shellcheck shell=bash

# Options that take a value, of all verbs.
_skyspool_takes_value() {
    case $1 in
    -c | --cluster | -n | --name | --workdir | --git-url | --git-ref | --num-nodes | --gpus | --cpus | --memory) ;;
    --env | --env-file | --secret | --secret-file | -o | --output | --tail | --older | --pace | --address | --state | --without) ;;
    --with | --meet | --patience | --users | --owner) ;;
    *) return 1 ;;
    esac
}

_skyspool_options() { # PROGRAM VERB
    case $1.$2 in
    skyspool.) echo --version ;;
    skyspool.exec | skyspool.launch)
        echo --cluster --detach-run --detach --name --workdir --git-url --git-ref --num-nodes --gpus --cpus --memory \
            --env --env-file --secret --secret-file --wait --no-wait --async --no-async --dryrun
        [[ $2 == exec ]] || echo --no-setup
        ;;
    skyspool.queue) echo --skip-finished --all-users --output ;;
    skyspool.logs) echo --follow --no-follow --tail --status --sync-down --raw ;;
    skyspool.cancel) echo --all --all-users --yes --async --no-async ;;
    skyspool.status | skyspool.why) echo --output ;;
    skyspool.lint) echo --env --env-file --dropped ;;
    skyspool.up) echo --gpus ;;
    skyspool.down) echo --jobs ;;
    skyspool.init) echo --name --users --owner ;;
    skyspool.doctor) echo --with --meet --patience --output ;;
    skyspool.prune) echo --older --dry-run ;;
    skyspool.demo) echo --pace ;;
    spoold.) echo --version --verbose --quiet ;;
    spoold.head) echo --once --force --state ;;
    spoold.node) echo --once --name --gpus --cpus --memory --address --state ;;
    spoold.fsck) echo --repair --output ;;
    spoold.recover) echo --without --force --state ;;
    esac
    echo --help
}

_skyspool_verbs() { # PROGRAM
    case $1 in
    spoold) echo head node fsck recover ;;
    *) echo exec launch queue logs cancel status why lint up down init use doctor prune demo ;;
    esac
}

# ---- the configuration, and the spool's own file names

# `NAME DIRECTORY` for each configured cluster, the user's last; `default NAME` lines say which one is meant if none is.
_skyspool_configured() { # clusters | default
    local file line part
    for file in /etc/skyspool/config.yaml "${XDG_CONFIG_HOME:-$HOME/.config}/skyspool/config.yaml"; do
        part=
        [[ -r $file ]] && while IFS= read -r line; do
            [[ $line =~ ^([a-z]+):[[:space:]]*([^[:space:]]*) ]] && part=${BASH_REMATCH[1]}
            if [[ $1 == default && $line =~ ^default:[[:space:]]*([^[:space:]]+) ]]; then
                echo "${BASH_REMATCH[1]}"
            elif [[ $1 == clusters && $part == clusters &&
                $line =~ ^[[:space:]]+([A-Za-z][A-Za-z0-9._-]*):[[:space:]]*[\'\"]?([^\'\"]+) ]]; then
                echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
            fi
        done <"$file"
    done
}

_skyspool_clusters() {
    local name _
    while read -r name _; do
        echo "$name"
    done < <(_skyspool_configured clusters)
}

# The directory that a word names, or of the default spool.
_skyspool_directory() { # [CLUSTER]
    local wanted=${1-} name place found='' count=0
    [[ $wanted ]] && [[ -f $wanted/spool.yaml ]] && { echo "$wanted" && return; }
    [[ ! $wanted && ${SKYSPOOL_DIR-} ]] && { echo "$SKYSPOOL_DIR" && return; }
    [[ $wanted ]] || wanted=$(_skyspool_configured default | tail -n 1)
    while read -r name place; do
        count=$((count + 1))
        [[ $name == "$wanted" || ! $wanted ]] && found=$place
    done < <(_skyspool_configured clusters)
    [[ $wanted || $count == 1 ]] && echo "${found/#\~/$HOME}"
}

# IDs of what waits and runs; with `ended` also of what ended on the last day.
_skyspool_jobs() ( # DIRECTORY [ended]
    set +f
    shopt -u failglob nullglob
    files=("$1"/pending/[0-9]*.yaml "$1"/running/[0-9]*.yaml)
    if [[ ${2-} == ended ]]; then
        days=("$1"/done/????-??-??)
        files+=("${days[${#days[@]} - 1]}"/[0-9]*.yaml)
    fi
    for file in "${files[@]##*/}"; do
        [[ $file =~ ^([0-9]+)\. ]] && echo "${BASH_REMATCH[1]}"
    done
)

# ---- completion

_skyspool_offer() { # WORDS: those that begin with what was typed
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_skyspool_offer_files() { # -d, or -f with a pattern of what to leave out
    compopt -o filenames 2>/dev/null
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$@" -- "$cur")
}

_skyspool_offer_tasks() {
    _skyspool_offer_files -d
    _skyspool_offer_files -f -X '!*.y*ml'
}

_skyspool_value() { # OPTION VERB
    case $1 in
    -c | --cluster) _skyspool_offer "$(_skyspool_clusters)" ;;
    -o | --output) _skyspool_offer "$([[ $2 == why || $2 == doctor || $2 == fsck ]] && echo text || echo table) json" ;;
    --env-file | --secret-file) _skyspool_offer_files -f ;;
    --workdir | --state) _skyspool_offer_files -d ;;
    --gpus) _skyspool_offer none ;;
    --users) _skyspool_offer "single multi" ;;
    esac
}

_skyspool_word() { # VERB WORDS-BEFORE...
    local verb=$1 first=${2-}
    case $verb in
    exec | launch)
        [[ $first ]] || _skyspool_offer "$(_skyspool_clusters)"
        _skyspool_offer_tasks
        ;;
    queue | status) _skyspool_offer "$(_skyspool_clusters)" ;;
    prune) [[ $first ]] || _skyspool_offer "$(_skyspool_clusters)" ;;
    logs | cancel | why)
        [[ $first ]] || _skyspool_offer "$(_skyspool_clusters)"
        [[ $first == *[!0-9]* ]] || first=
        _skyspool_offer "$(_skyspool_jobs "$(_skyspool_directory "$first")" "$([[ $verb == logs ]] && echo ended)")"
        ;;
    lint) _skyspool_offer_tasks ;;
    use)
        _skyspool_offer "$(_skyspool_clusters)"
        _skyspool_offer_files -d
        ;;
    up | down | init | doctor | head | node | fsck | recover) [[ $first ]] || _skyspool_offer_files -d ;;
    esac
}

_skyspool() {
    local program=${1##*/} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' words=() i word
    COMPREPLY=()
    # readline breaks --gpus=H100:8 into five words
    [[ $cur == = ]] && cur=''
    [[ $prev == = ]] && ((COMP_CWORD > 2)) && prev=${COMP_WORDS[COMP_CWORD - 2]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        --)
            if ((i == COMP_CWORD - 1)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$cur")
            else
                _skyspool_offer_files -f
            fi
            return
            ;;
        = | :) i=$((i + 1)) ;;
        -*) _skyspool_takes_value "$word" && [[ ${COMP_WORDS[i + 1]} != = ]] && i=$((i + 1)) ;;
        *) [[ $verb ]] && words+=("$word") || verb=$word ;;
        esac
    done
    if [[ $verb ]] && _skyspool_takes_value "$prev"; then
        _skyspool_value "$prev" "$verb"
    elif [[ $cur == -* ]]; then
        _skyspool_offer "$(_skyspool_options "$program" "$verb")"
    elif [[ $verb ]]; then
        _skyspool_word "$verb" "${words[@]}"
    else
        _skyspool_offer "$(_skyspool_verbs "$program")"
    fi
}

complete -F _skyspool skyspool spoold
