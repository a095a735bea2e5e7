#!/bin/sh
# spool-submit.sh DIR TASK.yaml [NAME]: submit a job from a host that has no Python, as `skyspool launch -d` would: its
# setup runs too. Nothing is put into the text, so a workdir must be absolute or begin with ~, and none means your home.
#
# The text is written to DIR/tmp, made durable, and renamed into DIR/pending as NAME@TOKEN.yaml, so that no head ever
# sees half of it; it ends with YAML's end mark, so that no head waits for more. TOKEN grows with time: jobs keep their
# order. NAME@TOKEN is printed: `skyspool logs`, `cancel` and `why` take it until the job has an ID. See spool(5).
#
# POSIX sh; cat, date, mv and sync. No lock, no running head, nothing to be installed.

set -u
LC_ALL=C
export LC_ALL
umask 077 # the file is 0600: it may hold secrets

FORMAT=1 # of the spool that this script knows how to write to
NL='
'

usage() {
    cat <<'EOF'
usage: spool-submit.sh DIR TASK.yaml [NAME]

Submit a job: drop TASK.yaml into the spool DIR (the directory that holds spool.yaml). TASK.yaml may be -, for standard
input. NAME is what the job's files are called; else that of TASK.yaml. A workdir must be absolute or begin with ~.

Prints NAME@TOKEN, by which skyspool knows the job. Ends with 0: submitted, and it outlives a power loss; 1: nothing was
submitted; 2: wrong usage; 3: submitted, but the disk did not confirm it; 78: the spool has a newer format.
EOF
}

fail() { # STATUS WHAT [HINT]
    printf 'spool-submit.sh: %s\n' "$2" >&2
    [ $# -lt 3 ] || printf 'hint: %s\n' "$3" >&2
    exit "$1"
}

give_up() { # WHAT [HINT]: after the file in tmp/ was made
    rm -f "$private"
    fail 1 "nothing was submitted: $1" "${2:-df -h $spool/tmp; ls -ld $spool/tmp $spool/pending}"
}

check_spool() {
    [ -f "$spool/spool.yaml" ] ||
        fail 1 "$spool holds no spool.yaml: it is no spool, or its share is not mounted" "ls $spool"
    while read -r key value _; do
        case $key$value in
        format:*[!0-9]*) ;; # not for us to judge
        format:?*) [ "$value" -le "$FORMAT" ] ||
            fail 78 "$spool has format $value, this script knows formats up to $FORMAT" "get a newer spool-submit.sh" ;;
        esac
    done <"$spool/spool.yaml"
    for folder in tmp pending; do
        [ -d "$spool/$folder" ] || fail 1 "$spool/$folder is no directory" "skyspool init $spool   # makes what is missing"
        [ -w "$spool/$folder" ] || fail 1 "$spool/$folder may not be written to" "ls -ld $spool/$folder; id"
    done
}

check_task() {
    [ "$task" != - ] || return 0
    [ ! -d "$task" ] || fail 1 "$task is a directory, not a task file"
    [ -e "$task" ] || fail 1 "$task: no such file" "ls -l $task"
    [ -r "$task" ] || fail 1 "$task may not be read" "ls -l $task"
}

is_digits() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
}

# name -> label: what is left of a name when everything that means something to the spool is taken off it.
make_label() {
    label=${name%.yaml}
    label=${label%.yml}
    while is_digits "${label%%.*}" && [ "$label" != "${label#*.}" ]; do
        label=${label#*.} # an ID
    done
    for status in SUCCEEDED FAILED FAILED_SETUP FAILED_DRIVER CANCELLED; do
        label=${label%."$status"}
    done
    case $label in
    *@??????????????) case ${label##*@} in *[!0-9a-v]*) ;; *) label=${label%@*} ;; esac ;;
    esac
    while [ "$label" != "${label#*[[:cntrl:]/]}" ]; do
        label=${label%%[[:cntrl:]/]*}_${label#*[[:cntrl:]/]}
    done
    while [ "$label" != "${label#[.# ]}" ]; do
        label=${label#?} # a head does not look at .NAME and #NAME
    done
    [ ${#label} -le 160 ] || label=$(printf '%.160s' "$label")
    label=${label:-job}
}

# The letter of base32hex, whose order is that of the numbers.
letter() {
    shift $(($1 + 1))
    token=$token$1
}

append() { # NUMBER LETTERS: as many of its lowest digits of base 32
    place=$2
    while [ "$place" -gt 0 ]; do
        place=$((place - 1))
        letter $((($1 >> 5 * place) & 31)) 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v
    done
}

# token: microseconds since 1970 in 11 letters, then 3 of chance.
make_token() {
    now=$(date +%s%N)
    case $now in *[!0-9]*) now= ;; esac
    [ ${#now} -ge 19 ] || now=$(date +%s)000000000 # a date that knows seconds only
    chance=
    if [ -r /proc/sys/kernel/random/uuid ]; then
        read -r chance </proc/sys/kernel/random/uuid
        chance=$((0x${chance%%-*}))
    fi
    token=
    append $((now / 1000)) 11
    append "${chance:-$$}" 3
}

write() {
    # Read by one program, ended and written by the shell: each further program costs a millisecond.
    if [ "$task" = - ]; then
        text=$(cat && printf x)
    else
        text=$(cat -- "$task" && printf x)
    fi || fail 1 "nothing was submitted: $task could not be read" "ls -l $task"
    text=${text%x} # which kept the newlines at the end
    [ -n "$text" ] || fail 1 "nothing was submitted: the task is empty" "cat $task"
    case $NL$text in
    *"$NL...$NL") ;;
    *"$NL...") text=$text$NL ;;
    *"$NL") text=$text...$NL ;;
    *) text=$text$NL...$NL ;;
    esac
    [ ! -g "$spool/tmp" ] || umask 027 # several users: the file gets the head's group, which has to read it
    set -C # what stands there already is somebody else's
    true >"$private" || fail 1 "nothing was submitted: $private could not be made" "ls -ld $spool/tmp"
    set +C
    trap 'give_up interrupted' HUP INT TERM
    printf %s "$text" 2>/dev/null >"$private" ||
        printf %s "$text" | cat >"$private" || # which says why
        give_up "$private could not be written"
}

# Make a file or directory outlive a power loss.
sync_path() {
    if command -v sync >/dev/null; then
        sync "$1"
    else
        echo "note: there is no sync(1) here: a power loss may still take the job" >&2
    fi
}

# Make the names in pending/ outlive a power loss; where nobody may list it, all that its file system holds.
sync_names() {
    if [ -r "$spool/pending" ]; then
        sync_path "$spool/pending"
    else
        sync -f "$spool/spool.yaml" 2>/dev/null || sync
    fi
}

publish() {
    sync_path "$private" || give_up "$private could not be made durable"
    trap '' HUP INT TERM # from here on it may be submitted
    # An NFS client may report a rename that took place as failed; the private name is ours alone and tells.
    mv -f -- "$private" "$spool/pending/$file" || [ ! -e "$private" ] || give_up "$private could not be moved to pending/"
    trap - HUP INT TERM
    printf '%s\n' "$label@$token"
    sync_names || fail 3 "submitted, but $spool/pending could not be made durable"
}

case ${1-} in
-h | --help)
    usage
    exit 0
    ;;
esac
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    usage >&2
    exit 2
fi
spool=${1%/} task=$2 name=${3-}
case $spool in -*) spool=./$spool ;; esac
[ -n "$name" ] || name=${task##*/}
[ "$name" != - ] || name=job
check_spool
check_task
make_label
make_token
file=$label@$token.yaml
private=$spool/tmp/$file
write
publish
