package rawalloc

const maxArrayLen = 1 << 31
