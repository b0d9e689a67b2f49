/* Sheets of small pictures on white. */
#ifndef TSR_CLI_SHEET_H
#define TSR_CLI_SHEET_H

#include "recipes/data/data.h"

enum { TSR_SHEET_GAP = 4 };

/* White, zoomed by tsr_sheet__zoom() for tiles of this size. */
tsr_status tsr_sheet__open(tsr_image *sheet, int64_t height, int64_t width);
/* How often to repeat the pixels of small tiles, so that one can see them. */
int tsr_sheet__zoom(int size);
/* tile at (top, left), each of its pixels zoom x zoom. */
void tsr_sheet__paste(tsr_image *sheet, int top, int left, const tsr_image *tile, int zoom);

#endif
