// The exception of an argument that breaks a rule, which Python sees as a ValueError.
//
// Up to 2.14 torch made one of std::invalid_argument; from 2.15 on it makes a RuntimeError of every
// exception of the standard library on its way from an operator. What it lets pass are pybind11's
// exceptions that set Python's error themselves; their base is declared here as it is there, so
// that the operators need no Python to be compiled, linked or loaded.
#pragma once

#include <stdexcept>

extern "C" {
// Where no Python is, they are null, and nobody asks.
extern __attribute__((weak)) struct _object* PyExc_ValueError;
extern __attribute__((weak)) void PyErr_SetString(struct _object* type, const char* message);
}

namespace pybind11 {

// Found by its name, whichever library declares it.
class __attribute__((visibility("default"))) builtin_exception : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  virtual void set_error() const = 0;
};

}  // namespace pybind11

namespace fcn_ext {

class Refusal : public pybind11::builtin_exception {
 public:
  using pybind11::builtin_exception::builtin_exception;
  void set_error() const override { PyErr_SetString(PyExc_ValueError, what()); }
};

}  // namespace fcn_ext
