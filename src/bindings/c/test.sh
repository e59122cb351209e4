#!/usr/bin/env bash
# Compiles the C example against both libraries, with address sanitizer, and compares its calls with
# those of the program:
#
#     cargo build --release && cargo build --release -p strandline-c && src/bindings/c/test.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

built=$PWD/target/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=(-std=c11 -Wall -Wextra -Werror -g -fsanitize=address,undefined -Isrc/bindings/c)
cc "${options[@]}" src/bindings/c/examples/annotate.c -L"$built" -lstrandline_c -o "$work/shared"
cc "${options[@]}" src/bindings/c/examples/annotate.c "$built/libstrandline_c.a" \
    -Wl,-z,noexecstack -lpthread -ldl -lm -o "$work/static"
# The header is C++, too.
printf '#include "strandline.h"\nint main() { return strandline_abi() == 0; }\n' >"$work/header.cc"
c++ -std=c++17 -Wall -Wextra -Werror -Isrc/bindings/c "$work/header.cc" -L"$built" \
    -lstrandline_c -o "$work/header"
LD_LIBRARY_PATH=$built "$work/header"

# Handles that are freed when a thread, or the program, is at its end.
cat >"$work/end.c" <<'CODE'
#include <pthread.h>
#include <stdlib.h>
#include "strandline.h"
static pthread_key_t key;
static void at_end(void *unused)
{
    char why[64];
    (void)unused;
    if (strandline_free(1) != STRANDLINE_HANDLE || strandline_last_error(why, sizeof why) == 0)
        abort();
}
static void at_exit(void) { at_end(NULL); }
static void *thread(void *unused)
{
    pthread_setspecific(key, &key);
    strandline_free(0);
    return unused;
}
int main(void)
{
    pthread_t one;
    pthread_key_create(&key, at_end);
    atexit(at_exit);
    strandline_free(0);
    pthread_create(&one, NULL, thread, NULL);
    return pthread_join(one, NULL);
}
CODE
cc "${options[@]}" "$work/end.c" -L"$built" -lstrandline_c -lpthread -o "$work/end"
LD_LIBRARY_PATH=$built "$work/end"

gzip -dc tests/data/genes.fa.gz | awk '/^>/ { n++; next } n == 1' | tr -d '\n' >"$work/letters"
{ echo ">one"; cat "$work/letters"; echo; } >"$work/one.fa"
for tier in auto fast; do
    "$built/strandline" -q annotate --tier "$tier" "$work/one.fa" | tail -n +2 | cut -f 2-6 |
        sort >"$work/expected"
    [[ -s $work/expected ]]
    for program in shared static; do
        LD_LIBRARY_PATH=$built "$work/$program" "tier=$tier" <"$work/letters" | sort >"$work/calls"
        cmp "$work/expected" "$work/calls"
        echo "$program, $tier: $(wc -l <"$work/calls") calls, as the program's"
    done
done
if LD_LIBRARY_PATH=$built "$work/shared" "tier=best" </dev/null 2>"$work/error"; then
    echo "a wrong option was taken" >&2
    exit 1
fi
grep -q "fast, accurate or auto" "$work/error"
