/* Annotates a sequence in pieces of 400 bases and prints its calls.

       cc annotate.c -I.. -L../../../../target/release -lstrandline_c -o annotate
       annotate [OPTIONS] < letters
*/

#include <stdio.h>
#include <stdlib.h>

#include "strandline.h"

static void check(int status)
{
    if (status < 0) {
        char why[512];
        strandline_last_error(why, sizeof why);
        fprintf(stderr, "error %d: %s\n", status, why);
        exit(1);
    }
}

static void print_calls(uint64_t read)
{
    static const char *const kinds[] = {
        "donor", "acceptor", "promoter", "tf", "expression", "promoter-strength",
    };
    struct StrandlineCall call;
    while (strandline_next_call(read, &call) == STRANDLINE_OK) {
        printf("%llu\t%llu\t%c\t%s\t%.4f\n", (unsigned long long)call.start,
               (unsigned long long)call.end, call.strand, kinds[call.kind], call.score);
    }
}

int main(int argc, char **argv)
{
    if (strandline_abi() != STRANDLINE_ABI) {
        fprintf(stderr, "strandline.h and the library are of different versions\n");
        return 1;
    }
    uint64_t annotator, read;
    check(strandline_open(argc > 1 ? argv[1] : NULL, &annotator));
    check(strandline_begin(annotator, &read));

    char bases[400];
    size_t length;
    while ((length = fread(bases, 1, sizeof bases, stdin)) > 0) {
        check(strandline_push(read, bases, length));
        print_calls(read);
    }
    check(strandline_finish(read));
    print_calls(read);

    check(strandline_free(read));
    check(strandline_free(annotator));
    if (strandline_free(read) != STRANDLINE_HANDLE) {
        fprintf(stderr, "a read was freed twice\n");
        return 1;
    }
    return 0;
}
