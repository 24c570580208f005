/* libFuzzer's entry points around a Python function: the compiled modules are what is instrumented and watched by the
 * sanitizers, the differential check is plain Python. An exception that leaves the function is a finding.
 *
 * FUZZ_TARGET names the function in fuzz/targets.py.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

static PyObject *target;

static void stop_if_failed(void *result) {
    if (result == NULL) {
        PyErr_Print();
        fflush(stderr);
        abort();
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *name = getenv("FUZZ_TARGET");
    PyObject *module;
    (void)argc;
    (void)argv;
    Py_InitializeEx(0);
    module = PyImport_ImportModule("fuzz.targets");
    stop_if_failed(module);
    target = PyObject_GetAttrString(module, name ? name : "numbers");
    stop_if_failed(target);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    PyObject *result = PyObject_CallFunction(target, "y#", (const char *)data, (Py_ssize_t)size);
    stop_if_failed(result);
    Py_DECREF(result);
    return 0;
}
