# Completion of skyspool and spoold for fish 3.4 and newer: verbs, options, clusters, jobs, task files.
#
#     cp skyspool.fish ~/.config/fish/completions/
#     ln -s skyspool.fish ~/.config/fish/completions/spoold.fish
#
# No Python is started: clusters are read from the configuration, jobs from the names of the spool's files.
# tests/contrib/test_completions.py holds the lists against the real command lines.

# ---- the configuration, and the spool's own file names

function __skyspool_configuration
    set -l home $XDG_CONFIG_HOME
    test -n "$home"; or set home ~/.config
    for file in /etc/skyspool/config.yaml $home/skyspool/config.yaml
        test -r $file; and string match -rv '^\s*#' <$file
    end
end

# NAME<tab>DIRECTORY of each configured cluster.
function __skyspool_clusters
    __skyspool_configuration | string replace -rf '^\s+([A-Za-z][A-Za-z0-9._-]*):\s*["\']?([^"\']+)["\']?$' '$1\t$2'
end

# The directory that a word names, or of the default spool.
function __skyspool_directory -a wanted
    if test -n "$wanted"
        test -f "$wanted/spool.yaml"; and echo $wanted; and return
    else if test -n "$SKYSPOOL_DIR"
        echo $SKYSPOOL_DIR
        return
    else
        set wanted (__skyspool_configuration | string replace -rf '^default:\s*(\S+).*' '$1')[-1]
    end
    set -l clusters (__skyspool_clusters)
    test -z "$wanted" -a (count $clusters) = 1; and set wanted (string split \t $clusters)[1]
    test -n "$wanted"; and string replace -rf '^'(string escape --style=regex -- $wanted)'\t(.*)' '$1' $clusters \
        | string replace -r '^~' $HOME | tail -n 1
end

# ---- where the cursor is

# The verb and what stands behind it, without options and their values, up to the cursor.
function __skyspool_words
    set -l takes_value -c --cluster -n --name --workdir --git-url --git-ref --num-nodes --gpus --cpus --memory --env \
        --env-file --secret --secret-file -o --output --tail --older --pace --address --state --without \
        --with --meet --patience
    set -l before
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; or contains -- "$before" $takes_value; or echo $word
        set before $word
    end
end

function __skyspool_behind_dashes
    contains -- -- (commandline -opc)
end

function __skyspool_no_verb
    test -z "$(__skyspool_words)"
end

function __skyspool_verb
    not __skyspool_behind_dashes; and contains -- (__skyspool_words)[1] $argv
end

function __skyspool_first_word
    __skyspool_verb $argv; and test (count (__skyspool_words)) = 1
end

# ID<tab>NAME of what waits and runs; for logs also of what ended on the last day.
function __skyspool_jobs
    set -l words (__skyspool_words)
    set -l directory (__skyspool_directory (string match -rv -- '^\d+$' $words[2]))
    test -n "$directory"; or return
    set -l files $directory/pending/*.yaml $directory/running/*.yaml
    if test $words[1] = logs
        set -l days $directory/done/????-??-??
        set -q days[1]; and set -a files $days[-1]/*.yaml
    end
    string replace -rf '.*/(\d+)\.([^/]*)\.yaml$' '$1\t$2' -- $files
end

function __skyspool_task_files
    set -l word (commandline -ct)
    set -l really (string replace -r '^~' $HOME -- $word)
    for file in $really*/ $really*.yaml $really*.yml
        string replace -- "$really" "$word" $file
    end
end

# ---- what there is

complete -c skyspool -f
complete -c skyspool -n 'not __skyspool_behind_dashes' -s h -l help -d 'Show help'
complete -c skyspool -n __skyspool_no_verb -l version -d 'Tell the version'

complete -c skyspool -n __skyspool_no_verb -a exec -d 'Submit a task file or a command; skip its setup'
complete -c skyspool -n __skyspool_no_verb -a launch -d 'Submit a task file or a command; run its setup first'
complete -c skyspool -n __skyspool_no_verb -a queue -d 'Show jobs'
complete -c skyspool -n __skyspool_no_verb -a logs -d 'Show what a job printed, or wait for its end'
complete -c skyspool -n __skyspool_no_verb -a cancel -d 'Cancel jobs'
complete -c skyspool -n __skyspool_no_verb -a status -d 'Show the head, the nodes and who holds which GPU'
complete -c skyspool -n __skyspool_no_verb -a why -d 'Tell what a pending job waits for'
complete -c skyspool -n __skyspool_no_verb -a lint -d 'Check task files without submitting them'
complete -c skyspool -n __skyspool_no_verb -a up -d 'Start a head and a node on this machine'
complete -c skyspool -n __skyspool_no_verb -a down -d "Stop this machine's head and node"
complete -c skyspool -n __skyspool_no_verb -a init -d 'Make a spool'
complete -c skyspool -n __skyspool_no_verb -a use -d 'Name a spool as the default one'
complete -c skyspool -n __skyspool_no_verb -a doctor -d 'Measure whether a directory can hold a spool'
complete -c skyspool -n __skyspool_no_verb -a prune -d 'Remove what is left of jobs that ended long ago'
complete -c skyspool -n __skyspool_no_verb -a demo -d 'Play a short story with four simulated GPUs'

set -l submit '__skyspool_verb exec launch'
complete -c skyspool -n $submit -s c -l cluster -xa '(__skyspool_clusters)' -d "The spool; then all words are the task's"
complete -c skyspool -n $submit -s d -l detach-run -d 'Return once submitted'
complete -c skyspool -n $submit -l detach -d 'Return once submitted'
complete -c skyspool -n $submit -s n -l name -x -d 'Name of the job'
complete -c skyspool -n $submit -l workdir -xa '(__fish_complete_directories)' -d 'Directory to run in'
complete -c skyspool -n $submit -l git-url -x -d 'Repository to clone and run in'
complete -c skyspool -n $submit -l git-ref -x -d 'Its branch, tag or commit'
complete -c skyspool -n $submit -l num-nodes -x -d 'On how many nodes at once'
complete -c skyspool -n $submit -l gpus -xa none -d 'H100:8, H100 (one), H100:0.5, none; of each node'
complete -c skyspool -n $submit -l cpus -x -d 'CPUs of each node'
complete -c skyspool -n $submit -l memory -x -d 'Memory of each node, in GB'
complete -c skyspool -n $submit -l env -x -d 'A variable of the job; KEY alone: as it is here'
complete -c skyspool -n $submit -l env-file -rF -d 'File of KEY=VALUE lines'
complete -c skyspool -n $submit -l secret -x -d 'As --env; never shown'
complete -c skyspool -n $submit -l secret-file -rF -d 'File of KEY=VALUE lines, never shown'
complete -c skyspool -n $submit -l wait -d 'Submit even what no known node could serve'
complete -c skyspool -n $submit -l no-wait -d 'Do not wait for the ID'
complete -c skyspool -n $submit -l async -d 'As --no-wait -d'
complete -c skyspool -n $submit -l no-async -d Wait
complete -c skyspool -n $submit -l dryrun -d 'Show what would be submitted'
complete -c skyspool -n '__skyspool_verb launch' -l no-setup -d 'Skip the setup commands'
complete -c skyspool -n '__skyspool_first_word exec launch' -a '(__skyspool_clusters)'
complete -c skyspool -n $submit -ka '(__skyspool_task_files)'
complete -c skyspool -n __skyspool_behind_dashes -F
complete -c skyspool -n 'test (commandline -opc)[-1] = --' -a '(__fish_complete_command)'

complete -c skyspool -n '__skyspool_verb queue status why doctor' -s o -l output -xa json -d 'How to print'
complete -c skyspool -n '__skyspool_verb queue status' -s o -l output -xa table -d 'How to print'
complete -c skyspool -n '__skyspool_verb why doctor' -s o -l output -xa text -d 'How to print'
complete -c skyspool -n '__skyspool_verb queue status' -a '(__skyspool_clusters)'
complete -c skyspool -n '__skyspool_verb queue' -s s -l skip-finished -d 'Only jobs that wait or run'
complete -c skyspool -n '__skyspool_verb queue' -s u -l all-users -d "Everybody's jobs, not only mine"

complete -c skyspool -n '__skyspool_first_word logs cancel why' -a '(__skyspool_clusters)'
complete -c skyspool -n '__skyspool_verb logs cancel why' -ka '(__skyspool_jobs)'
complete -c skyspool -n '__skyspool_verb logs' -l follow -d 'Go on until the job is over'
complete -c skyspool -n '__skyspool_verb logs' -l no-follow -d 'Print what is there'
complete -c skyspool -n '__skyspool_verb logs' -l tail -x -d 'Begin with the last lines of each rank'
complete -c skyspool -n '__skyspool_verb logs' -l status -d "Tell the job's state only"
complete -c skyspool -n '__skyspool_verb logs' -s s -l sync-down -d 'Copy the logs to ~/sky_logs'
complete -c skyspool -n '__skyspool_verb logs' -l raw -d 'Pass on every byte, also to a terminal'
complete -c skyspool -n '__skyspool_verb cancel' -s a -l all -d 'All my jobs'
complete -c skyspool -n '__skyspool_verb cancel' -s u -l all-users -d "All jobs, everybody's"
complete -c skyspool -n '__skyspool_verb cancel' -s y -l yes -d 'Do not ask'
complete -c skyspool -n '__skyspool_verb cancel' -l async -d 'Do not wait for it to be carried out'
complete -c skyspool -n '__skyspool_verb cancel' -l no-async -d Wait

complete -c skyspool -n '__skyspool_verb lint' -l env -x -d 'A value that the file leaves open'
complete -c skyspool -n '__skyspool_verb lint' -l env-file -rF -d 'File of KEY=VALUE lines'
complete -c skyspool -n '__skyspool_verb lint' -l dropped -d 'Check it as a file that is dropped by hand'
complete -c skyspool -n '__skyspool_verb lint' -ka '(__skyspool_task_files)'

complete -c skyspool -n '__skyspool_first_word up down init use doctor' -a '(__fish_complete_directories)'
complete -c skyspool -n '__skyspool_verb up' -l gpus -xa none -d 'What this machine has: H100:8'
complete -c skyspool -n '__skyspool_verb down' -l jobs -d 'Cancel the jobs that run on this host first'
complete -c skyspool -n '__skyspool_verb init' -l name -x -d 'What to call the spool'
complete -c skyspool -n '__skyspool_verb init' -l users -xa 'single multi' -d 'multi: jobs run as who dropped them'
complete -c skyspool -n '__skyspool_verb init' -l owner -xa '(__fish_complete_users)' -d 'The account of several users'
complete -c skyspool -n '__skyspool_first_word use prune' -a '(__skyspool_clusters)'
complete -c skyspool -n '__skyspool_verb doctor' -l with -xa '(__fish_print_hostnames)' -d 'Measure with this host too'
complete -c skyspool -n '__skyspool_verb doctor' -l meet -x -d 'Meet the doctor that waits on another host'
complete -c skyspool -n '__skyspool_verb doctor' -l patience -x -d 'How long to wait for the other host, in seconds'
complete -c skyspool -n '__skyspool_verb prune' -l older -x -d 'What is older: 90d, 12h'
complete -c skyspool -n '__skyspool_verb prune' -l dry-run -d 'Only tell what would be removed'
complete -c skyspool -n '__skyspool_verb demo' -l pace -x -d 'How long an epoch of training takes, in seconds'

complete -c spoold -f
complete -c spoold -s h -l help -d 'Show help'
complete -c spoold -n __skyspool_no_verb -l version -d 'Tell the version'
complete -c spoold -n __skyspool_no_verb -s v -l verbose -d 'Tell more'
complete -c spoold -n __skyspool_no_verb -s q -l quiet -d 'Tell warnings and errors only'
complete -c spoold -n __skyspool_no_verb -a head -d 'Decide what runs where'
complete -c spoold -n __skyspool_no_verb -a node -d 'Run on this host what the head assigns to it'
complete -c spoold -n __skyspool_no_verb -a fsck -d 'Check a spool, and repair it'
complete -c spoold -n __skyspool_no_verb -a recover -d 'Go on with a spool that was restored from a backup'
complete -c spoold -n '__skyspool_first_word head node fsck recover' -a '(__fish_complete_directories)'
complete -c spoold -n '__skyspool_verb head node' -l once -d 'One round, then end: for cron'
complete -c spoold -n '__skyspool_verb head node recover' -l state -xa '(__fish_complete_directories)' -d 'Where this host keeps what it remembers'
complete -c spoold -n '__skyspool_verb head' -l force -d 'Lead even where the file system is unsafe'
complete -c spoold -n '__skyspool_verb fsck' -l repair -d 'Mend what can be mended'
complete -c spoold -n '__skyspool_verb fsck' -s o -l output -xa 'text json' -d 'How to tell it'
complete -c spoold -n '__skyspool_verb recover' -l without -x -d 'A node that cannot say what it ran'
complete -c spoold -n '__skyspool_verb recover' -l force -d 'Even where nothing tells that the spool went back in time'
complete -c spoold -n '__skyspool_verb node' -l name -x -d "The node's name"
complete -c spoold -n '__skyspool_verb node' -l gpus -xa none -d 'What to offer: H100:8, A100:2,L4:1 or none'
complete -c spoold -n '__skyspool_verb node' -l cpus -x -d 'CPUs to offer'
complete -c spoold -n '__skyspool_verb node' -l memory -x -d 'Memory to offer, in GB'
complete -c spoold -n '__skyspool_verb node' -l address -x -d 'The address that other nodes reach this one by'
