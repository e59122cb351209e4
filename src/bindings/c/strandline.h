#ifndef STRANDLINE_H
#define STRANDLINE_H

#include <stddef.h>
#include <stdint.h>

// Splice-site, promoter and expression calls from nanopore reads.
//
// An annotator holds models and options; a read holds the bases of one read that may still grow.
// Both are numbers, not pointers: 0 is none, and a number that was freed, or never was one, is the
// error STRANDLINE_HANDLE wherever it is used. Every function may be called from any thread; calls
// on one read wait for each other. Nothing that is passed in is kept: strings and bases may go when
// a function returns. What is handed out is a copy in the caller's memory, or lives as long as the
// program. A function that fails changes nothing but for what it says; why it failed is what
// strandline_last_error gives, on the same thread.


// The version of this interface. It grows when a function or a struct changes; new functions leave
// it alone.
#define STRANDLINE_ABI 1

// All went well.
#define STRANDLINE_OK 0

// There is no call now.
#define STRANDLINE_NO_CALL 1

// A handle that is 0, was freed, or is of the other kind.
#define STRANDLINE_HANDLE -1

// A null pointer, or an option that cannot be.
#define STRANDLINE_ARGUMENT -2

// A byte that is no nucleotide.
#define STRANDLINE_BASE -3

// A model that cannot be opened or run.
#define STRANDLINE_MODEL -4

// The read is over.
#define STRANDLINE_OVER -5

// A fault of this library.
#define STRANDLINE_INTERNAL -6

// What a call is.
enum StrandlineKind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The last base of an exon.
  STRANDLINE_KIND_DONOR = 0,
  // The first base of an exon.
  STRANDLINE_KIND_ACCEPTOR = 1,
  // Where transcription begins.
  STRANDLINE_KIND_PROMOTER = 2,
  // A transcription factor binds around it.
  STRANDLINE_KIND_TF = 3,
  // A 5'UTR; its score is the mean ribosome load.
  STRANDLINE_KIND_EXPRESSION = 4,
  // A bacterial promoter; its score is the logarithm of its rate over a reference promoter's.
  STRANDLINE_KIND_PROMOTER_STRENGTH = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum StrandlineKind StrandlineKind;
#else
typedef uint8_t StrandlineKind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What to know of a call: bits of its flags.
enum StrandlineFlag
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The model's context reaches beyond an end of the read.
  STRANDLINE_FLAG_SHORT_CONTEXT = 1,
  // An N or another ambiguous letter lies within 20 bases.
  STRANDLINE_FLAG_AMBIGUOUS = 2,
  // RNA, whose first base need not be the transcript's.
  STRANDLINE_FLAG_UNVERIFIED5P = 4,
  // The read was cut short.
  STRANDLINE_FLAG_PARTIAL = 8,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum StrandlineFlag StrandlineFlag;
#else
typedef uint8_t StrandlineFlag;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A call. Its 24 bytes are the caller's.
typedef struct StrandlineCall {
  // Its first base, from 0, in forward coordinates of the read on both strands.
  uint64_t start;
  // The base behind its last.
  uint64_t end;
  // A calibrated probability, or what the kind says.
  float score;
  // A StrandlineKind.
  uint8_t kind;
  // '+' or '-'.
  uint8_t strand;
  // StrandlineFlag bits.
  uint8_t flags;
  // Which model: for strandline_model_name.
  uint8_t model;
} StrandlineCall;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface that the library has: compare it with STRANDLINE_ABI.
uint32_t strandline_abi(void);

// The version of strandline, as text that lives as long as the program.
const char *strandline_version(void);

// Opens models. `options` is null for the default, or text that ends with NUL: a line of KEY=VALUE
// for each option, such as "tier=fast". Keys are `tasks`, `tier`, `clade`, `molecule`, `strand`,
// `min-score`, `prior`, `model`, `max-starts` and `everywhere` (`true` or `false`), as `strandline
// annotate` has them. The annotator is put into `annotator`; strandline_free frees it.
//
// Returns STRANDLINE_OK, STRANDLINE_ARGUMENT, STRANDLINE_MODEL.
//
// # Safety
// `options` is null or ends with NUL; `annotator` is null or can be written.
int32_t strandline_open(const char *options, uint64_t *annotator);

// Begins a read, which is put into `read`; strandline_free frees it. It needs the annotator no
// longer, which may be freed before.
//
// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_ARGUMENT.
//
// # Safety
// `read` is null or can be written.
int32_t strandline_begin(uint64_t annotator, uint64_t *read);

// Adds bases to a read: letters of any case, U for T, IUPAC codes count as N. Calls that they make
// certain wait for strandline_next_call. Where a byte is no nucleotide, none is added.
//
// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_ARGUMENT, STRANDLINE_BASE,
// STRANDLINE_OVER, STRANDLINE_MODEL.
//
// # Safety
// `bases` can be read for `length` bytes; it may be null where `length` is 0.
int32_t strandline_push(uint64_t read, const char *bases, size_t length);

// Ends a read: the rest of its calls wait for strandline_next_call.
//
// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_OVER, STRANDLINE_MODEL.
int32_t strandline_finish(uint64_t read);

// Takes the next call of a read, in the order in which they became certain, into `call`.
//
// Returns STRANDLINE_OK; STRANDLINE_NO_CALL where none waits, and `call` is left alone;
// STRANDLINE_HANDLE, STRANDLINE_ARGUMENT.
//
// # Safety
// `call` is null or can be written.
int32_t strandline_next_call(uint64_t read, struct StrandlineCall *call);

// Frees an annotator or a read, once. Calls that wait are gone.
//
// Returns STRANDLINE_OK, STRANDLINE_HANDLE.
int32_t strandline_free(uint64_t handle);

// Copies the name and version of one of the annotator's models ("splice-auto/2.0.0") and NUL into
// `buffer`, cut to `size` bytes, and the bytes that all of it takes into `needed`, unless that is
// null. `buffer` may be null where `size` is 0.
//
// Returns STRANDLINE_OK, STRANDLINE_HANDLE, STRANDLINE_ARGUMENT (there is no such model).
//
// # Safety
// `buffer` can be written for `size` bytes, or `size` is 0; `needed` is null or can be written.
int32_t strandline_model_name(uint64_t annotator,
                              uint32_t model,
                              char *buffer,
                              size_t size,
                              size_t *needed);

// Why the last function that failed on this thread did: copies the message and NUL into `buffer`,
// cut to `size` bytes, and returns the bytes that all of it takes. `buffer` may be null.
//
// # Safety
// `buffer` is null or can be written for `size` bytes.
size_t strandline_last_error(char *buffer, size_t size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STRANDLINE_H */
