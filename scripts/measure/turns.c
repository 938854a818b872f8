// Runs commands in turn and times each, in a new order for each round, so that whatever the machine does meanwhile, and whatever one leaves to the
// next, hits all alike; none comes twice in a row. In a fixed order, or one that only turns round, a command that follows another's containers,
// or its own, half of the time was a fifth slower, or quicker. The orders are the same in each run of this program.
//
//   gcc -O2 -static -o turns turns.c
//   turns -n ROUNDS [-w WARM_UP] [-q QUIET_MS] [-s SECONDS] [-e ERRORS] FILE
//
// Each line of FILE: a subject, a phase, and a command with its arguments, separated by spaces; `%i` becomes a number that
// no other turn of the subject has. All phases of a subject follow one another in its turn. A phase that begins with `-` is done but
// not measured. The rounds before the first, WARM_UP of them (2), are not measured either.
//
// Prints a line per measurement, separated by tabs: subject, phase, round, microseconds of wall time, microseconds of processor
// time, peak resident KiB, wait status (0: well). Time is from before the fork until the process was waited for.
//
// Before each command it is quiet for 40 ms: the kernel defers work (namespaces, RCU's grace periods), and what one command leaves would be
// charged to the next; in a tight loop, on the other hand, those waits are shared, and look shorter than they are.
//
// Linked statically, because of the peak: the kernel counts in what the process was before execve, which is this program.

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 200, WORDS = 64 };

static struct line { char *subject, *phase, *words[WORDS]; } lines[LINES];
static int count, errors = 2, nowhere;
static volatile pid_t running;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// A command that hangs counts as failed; the others go on.
static void too_long(int signal) {
    (void)signal;
    if (running > 0) kill(running, SIGKILL);
}

static void read_lines(const char *path) {
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t size = 0;
    if (!file) die(path);
    for (; getline(&text, &size, file) > 0; text = NULL, size = 0) {
        struct line *line = &lines[count];
        char *rest = text, *word;
        int n = 0;
        line->subject = strsep(&rest, " \n");
        line->phase = strsep(&rest, " \n");
        while (rest && (word = strsep(&rest, " \n")))
            if (*word && n < WORDS - 1) line->words[n++] = word;
        if (n && ++count == LINES) break;
    }
    fclose(file);
}

// The word with its `%i` replaced, in memory that is kept until the command was started.
static char *filled(const char *word, int turn) {
    char *text, *at = strstr(word, "%i");
    if (!at) return (char *)word;
    if (asprintf(&text, "%.*s%d%s", (int)(at - word), word, turn, at + 2) < 0) die("asprintf");
    return text;
}

static void turn(struct line *line, int round, int id, int quiet, int seconds) {
    char *words[WORDS] = {NULL};
    for (int i = 0; line->words[i]; i++) words[i] = filled(line->words[i], id);
    struct timespec pause = {0, quiet * 1000000l};
    nanosleep(&pause, NULL);
    alarm(seconds);
    int64_t from = now();
    // vfork, as a shell's own spawning does: no page table is copied, and the peak of memory stays the command's.
    pid_t child = running = vfork();
    if (child == 0) {
        dup2(nowhere, 0);
        dup2(nowhere, 1);
        dup2(errors, 2);
        execve(words[0], words, environ);
        _exit(127);
    }
    int status;
    struct rusage used;
    while (wait4(child, &status, 0, &used) < 0) {}
    int64_t took = now() - from;
    running = 0;
    alarm(0);
    if (round < 0 && status == 0) return;
    if (*line->phase == '-' && status == 0) return;
    printf("%s\t%s\t%d\t%.1f\t%ld\t%ld\t%d\n", line->subject, line->phase + (*line->phase == '-'), round, took / 1e3,
           (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000l + used.ru_utime.tv_usec + used.ru_stime.tv_usec, used.ru_maxrss, status);
}

// The lines of one subject follow one another.
static void visit(int first, int round, int id, int quiet, int seconds) {
    for (int i = first; i < count && !strcmp(lines[i].subject, lines[first].subject); i++) turn(&lines[i], round, id, quiet, seconds);
}

// A new order, which does not begin with what the last one ended with.
static void shuffle(int *order, int length) {
    static uint32_t state = 1;
    int last = order[length - 1];
    do {
        for (int i = length - 1; i > 0; i--) {
            state = state * 1664525 + 1013904223;   // Knuth's, The Art of Computer Programming 2, 3.3.4
            int other = (state >> 16) % (i + 1), kept = order[i];
            order[i] = order[other], order[other] = kept;
        }
    } while (length > 2 && order[0] == last);
}

int main(int argc, char **argv) {
    int rounds = 30, warm_up = 2, quiet = 40, seconds = 30, option, firsts[LINES], subjects = 0, id = 0;
    while ((option = getopt(argc, argv, "n:w:q:s:e:")) > 0) switch (option) {
        case 'n': rounds = atoi(optarg); break;
        case 'w': warm_up = atoi(optarg); break;
        case 'q': quiet = atoi(optarg); break;
        case 's': seconds = atoi(optarg); break;
        case 'e': if ((errors = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0) die(optarg); break;
        default: return 2;
    }
    if (optind >= argc) return 2;
    if ((nowhere = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0) die("/dev/null");
    read_lines(argv[optind]);
    for (int i = 0; i < count; i++)
        if (!i || strcmp(lines[i].subject, lines[i - 1].subject)) firsts[subjects++] = i;
    // No SA_RESTART is needed: wait4 is asked again.
    struct sigaction action = {.sa_handler = too_long};
    sigaction(SIGALRM, &action, NULL);
    int order[LINES];
    for (int i = 0; i < subjects; i++) order[i] = firsts[i];
    for (int round = -warm_up; round < rounds; round++) {
        shuffle(order, subjects);
        for (int i = 0; i < subjects; i++) visit(order[i], round, ++id, quiet, seconds);
    }
    return 0;
}
