/* Reads digits with lenet.c and prints a line for each: the answer, then the scores.

   cc -std=c99 -O2 main.c lenet.c -lm -o lenet
   ./lenet FILE...

   A FILE holds one or more images, one after another: PGM files (P5, 28 wide, 28 high for each
   channel, maximum 255) or plain bytes, 784 for each channel. 0 is paper and 255 is ink.
   A plain image must not begin with the bytes "P5" and white space. */

#include "lenet.h"

#include <stdio.h>

enum { END, READ, BROKEN };

static int is_space(int byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Reads the next number of a PGM header and the byte after it; -1 if there is none. */
static long header_number(FILE *file)
{
    int byte = getc(file);
    while (is_space(byte) || byte == '#') {
        if (byte == '#') {
            while (byte != '\n' && byte != EOF) {
                byte = getc(file);
            }
        } else {
            byte = getc(file);
        }
    }
    long number = byte >= '0' && byte <= '9' ? 0 : -1;
    while (byte >= '0' && byte <= '9' && number < 100000) {
        number = 10 * number + (byte - '0');
        byte = getc(file);
    }
    return is_space(byte) ? number : -1;
}

static int read_image(FILE *file, uint8_t image[LENET_PIXELS])
{
    size_t have = fread(image, 1, 3, file);
    if (have == 0) {
        return ferror(file) ? BROKEN : END;
    }
    if (have == 3 && image[0] == 'P' && image[1] == '5' && is_space(image[2])) {
        if (header_number(file) != LENET_SIDE ||
            header_number(file) != LENET_SIDE * LENET_CHANNELS || header_number(file) != 255) {
            return BROKEN;
        }
        have = 0;
    }
    have += fread(image + have, 1, LENET_PIXELS - have, file);
    return have == LENET_PIXELS ? READ : BROKEN;
}

int main(int count, char *names[])
{
    static lenet_memory memory;
    uint8_t image[LENET_PIXELS];
    lenet_score scores[LENET_CLASSES];

    if (count < 2) {
        fprintf(stderr, "usage: lenet FILE...\n");
        return 2;
    }
    printf("answer");
    for (int k = 0; k < LENET_CLASSES; k++) {
        printf("\t%s", lenet_class[k]);
    }
    printf("\n");
    for (int n = 1; n < count; n++) {
        FILE *file = fopen(names[n], "rb");
        if (file == NULL) {
            fprintf(stderr, "lenet: cannot open %s\n", names[n]);
            return 2;
        }
        int state;
        while ((state = read_image(file, image)) == READ) {
            printf("%s", lenet_class[lenet_answer(image, scores, &memory)]);
            for (int k = 0; k < LENET_CLASSES; k++) {
                printf("\t%.9g", (double)scores[k] * LENET_SCORE_UNIT);
            }
            printf("\n");
        }
        fclose(file);
        if (state == BROKEN) {
            fprintf(stderr, "lenet: %s is neither a PGM of 28x28 pixels nor 784 bytes an image\n",
                    names[n]);
            return 2;
        }
    }
    return fflush(stdout) == 0 ? 0 : 2;
}
