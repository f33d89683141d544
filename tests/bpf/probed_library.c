// A library that is loaded when the program already runs.
int twice(int n)
{
    return 2 * n;
}
