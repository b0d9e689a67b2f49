#include "recipes/cli/sheet.h"

#include <inttypes.h>
#include <string.h>

tsr_status tsr_sheet__open(tsr_image *sheet, int64_t height, int64_t width)
{
    if (height > TSR_IMAGE_MAX_SIDE || width > TSR_IMAGE_MAX_SIDE) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "the sheet would have %" PRId64 " x %" PRId64
                        " pixels; ask for fewer pictures",
                        width, height);
    }
    if (tsr_image_resize_storage(sheet, (int)height, (int)width) != TSR_STATUS_OK)
        return tsr_status_get();
    memset(sheet->pixels, 255, (size_t)(height * width * 3));
    return TSR_STATUS_OK;
}

int tsr_sheet__zoom(int size)
{
    return size >= 112 ? 1 : 112 / size;
}

void tsr_sheet__paste(tsr_image *sheet, int top, int left, const tsr_image *tile, int zoom)
{
    for (int y = 0; y < tile->height * zoom; y++) {
        uint8_t *to = sheet->pixels + ((int64_t)(top + y) * sheet->width + left) * 3;
        const uint8_t *from = tile->pixels + (int64_t)(y / zoom) * tile->width * 3;
        for (int x = 0; x < tile->width * zoom; x++) memcpy(to + 3 * x, from + 3 * (x / zoom), 3);
    }
}
