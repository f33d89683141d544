// Functions that only their parameters tell apart.
#include <string>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

namespace shop {
struct Till {
    long sum = 0;
    KEEP explicit Till(long begin) : sum(begin) { asm volatile("" ::: "memory"); }
    KEEP void add(int n) { sum += n; asm volatile("" ::: "memory"); }
    KEEP void add(double n) { sum += (long)n; asm volatile("" ::: "memory"); }
    KEEP long total() const { asm volatile("" ::: "memory"); return sum; }
};
}  // namespace shop

int main()
{
    char c;
    if (write(1, "ready\n", 6) != 6)
        return 1;
    while (read(0, &c, 1) == 1) {
        if (c != 'w')
            continue;
        shop::Till till(3);
        for (int i = 0; i < 19; i++)
            till.add(i);
        for (int i = 0; i < 23; i++)
            till.add(1.5);
        if (till.total() < 0 || write(1, "done\n", 5) != 5)
            return 1;
    }
}
