// The exception for an argument that breaks a rule. Python sees a ValueError.
//
// Up to 2.14, torch turned std::invalid_argument into a ValueError; from 2.15 on it turns every
// standard exception that leaves an operator into a RuntimeError. It lets through pybind11's
// exceptions, which set Python's error themselves. Their base class is declared here as pybind11
// declares it, so that the operators need no Python to be compiled, linked or loaded.
#pragma once

#include <stdexcept>

extern "C" {
// Null without Python, where nothing calls set_error().
extern __attribute__((weak)) struct _object* PyExc_ValueError;
extern __attribute__((weak)) void PyErr_SetString(struct _object* type, const char* message);
}

namespace pybind11 {

// Matched by name, whichever library declares it.
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
