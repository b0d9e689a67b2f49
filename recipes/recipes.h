#ifndef TSR_RECIPES_H
#define TSR_RECIPES_H

#endif
