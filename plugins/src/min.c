// min: the smallest JSON number.
#define DIRECTION -1
#include "../lib/extreme.h"
