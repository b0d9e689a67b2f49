#ifndef TSR_MODELS_H
#define TSR_MODELS_H

#endif
