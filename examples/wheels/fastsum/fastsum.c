#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *sum_to(PyObject *self, PyObject *args) {
    long long n, total = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "L", &n)) return NULL;
    for (long long i = 1; i <= n; ++i) total += i;
    return PyLong_FromLongLong(total);
}

static PyMethodDef methods[] = {{"sum_to", sum_to, METH_VARARGS, "1 + 2 + … + n"}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fastsum", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_fastsum(void) { return PyModule_Create(&module); }
