// max: the largest JSON number.
#define DIRECTION 1
#include "../lib/extreme.h"
