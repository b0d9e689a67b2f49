# Completion of tessera for bash. Commands, recipes and options are what the program says they are.
_tessera() {
    local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]-} recipe=
    case $command in
    pretrain | plan | data) recipe=${COMP_WORDS[2]-} ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        set -- "$(tessera --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p') --help --version"
    elif [ "$COMP_CWORD" -eq 2 ] && [[ $command =~ ^(pretrain|plan|data)$ ]]; then
        set -- "$(tessera "$command" --help | sed -n '/^Recipes:/,$s/^  \([a-z][a-z0-9_-]*\) .*/\1/p')"
    elif [[ $word = -* ]]; then
        set -- "$(tessera "$command" ${recipe:+"$recipe"} --help | sed -n 's/^  \(--[a-z0-9-]*\).*/\1/p')"
    else
        set -- # files, by the default of complete
    fi
    mapfile -t COMPREPLY < <(compgen -W "${1-}" -- "$word")
}
complete -o default -F _tessera tessera
