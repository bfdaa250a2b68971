/* total * multiplier / 2^shift, rounded. */
static inline int64_t rescaled(int32_t total, int32_t multiplier, int shift)
{
    return ((int64_t)total * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
}

/* C99 leaves open what >> does to negative numbers. It must keep their sign here; otherwise this
   array has a negative size, and the compiler stops. */
typedef char shifts_keep_signs[(-1 >> 1) == -1 ? 1 : -1];

static inline int clamped(int64_t value, int most)
{
    return (int)(value < 0 ? 0 : value > most ? most : value);
}
