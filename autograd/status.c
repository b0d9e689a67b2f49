/* The sticky status of a thread: the first failure is kept with its message. */
#include "autograd/autograd.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local tsr_status current_status;
static _Thread_local char current_message[512];

tsr_status tsr_status_get(void)
{
    return current_status;
}

const char *tsr_message(void)
{
    return current_message;
}

void tsr_status_clear(void)
{
    current_status = TSR_STATUS_OK;
    current_message[0] = '\0';
}

const char *tsr_status_name(tsr_status status)
{
    switch (status) {
    case TSR_STATUS_OK:
        return "ok";
    case TSR_STATUS_ARGUMENT:
        return "argument";
    case TSR_STATUS_SHAPE:
        return "shape";
    case TSR_STATUS_DTYPE:
        return "dtype";
    case TSR_STATUS_STATE:
        return "state";
    case TSR_STATUS_MEMORY:
        return "memory";
    case TSR_STATUS_IO:
        return "io";
    case TSR_STATUS_FORMAT:
        return "format";
    case TSR_STATUS_NUMERIC:
        return "numeric";
    case TSR_STATUS_INTERRUPTED:
        return "interrupted";
    }
    return "unknown";
}

tsr_status tsr_fail(tsr_status status, const char *format, ...)
{
    if (current_status != TSR_STATUS_OK) return current_status;
    current_status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(current_message, sizeof current_message, format, args);
    va_end(args);
    /* One line, whatever a file name or a foreign header brought in. */
    for (char *c = current_message; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ') *c = ' ';
    }
    return status;
}
