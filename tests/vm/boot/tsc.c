/* Prints the frequency of this machine's time stamp counter in kHz.
 *
 * An emulated processor passes that counter on to its guest, whose kernel would calibrate it against
 * an emulated timer: on a busy machine that goes wrong by a factor of ten, and the guest's clock with
 * it. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct moment {
    uint64_t ticks;
    uint64_t ns;
};

/* The best of many looks at both clocks: one that was not interrupted. */
static struct moment look(void)
{
    struct moment best = { 0, 0 };
    uint64_t shortest = UINT64_MAX;

    for (int i = 0; i < 1000; i++) {
        struct timespec now;
        uint64_t before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        uint64_t after = __rdtsc();

        if (after - before < shortest) {
            shortest = after - before;
            best.ticks = before + (after - before) / 2;
            best.ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        }
    }
    return best;
}

int main(void)
{
    const struct timespec pause = { 0, 300000000 };
    struct moment first = look();
    nanosleep(&pause, NULL);
    struct moment last = look();

    printf("%.0f\n", (double)(last.ticks - first.ticks) * 1e6 / (double)(last.ns - first.ns));
    return 0;
}
