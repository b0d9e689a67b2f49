/* tsr_jpeg_decode() on any bytes: a picture of the size it says, or a message of one line. */
#include "recipes/data/data.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const int sides[] = {0, 8};
    for (int i = 0; i < 2; i++) {
        tsr_image image = {0};
        tsr_jpeg_info info;
        tsr_jpeg_options options = {.min_short_side = sides[i]};
        if (tsr_jpeg_decode(data, bytes, &options, &image, &info) == TSR_STATUS_OK) {
            size_t size = (size_t)image.height * (size_t)image.width * 3;
            if (size == 0 || size > image.capacity || tsr_status_get() != TSR_STATUS_OK) abort();
            /* Reads every byte, for MemorySanitizer and AddressSanitizer. */
            tsr_image_grayscale(&image);
        } else if (tsr_message()[0] == '\0' || strchr(tsr_message(), '\n') != NULL) {
            abort();
        }
        tsr_status_clear();
        tsr_image_free(&image);
    }
    tsr_pool_trim(); /* the next input gets no larger storage than it asks for */
    return 0;
}
