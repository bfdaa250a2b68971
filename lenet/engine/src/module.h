// What the Python modules have in common.
#pragma once

#include <nanobind/nanobind.h>

#include <unistd.h>

#include <cstddef>
#include <string>

#include "choices.h"

namespace lenet {

// Lets other Python threads run while a kernel computes. A daemon thread may still be computing
// when the interpreter shuts down. Python before 3.14 then ends the thread with pthread_exit as
// soon as it asks for the lock, and unwinding its stack through nanobind would abort the process:
// the thread waits here until the process ends.
class ReleasedLock {
 public:
  ReleasedLock() : state_(PyEval_SaveThread()) {}
  ~ReleasedLock() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) pause();
    }
  }
  ReleasedLock(const ReleasedLock&) = delete;
  ReleasedLock& operator=(const ReleasedLock&) = delete;

 private:
  PyThreadState* const state_;
};

// For every module: objects may be alive when the interpreter ends, and are no leak. FastAPI, for
// one, keeps an application's functions, which hold its networks, in caches that it never clears.
inline void allow_objects_at_exit() { nanobind::set_leak_warnings(false); }

// The choice of that name in one of the tables of choices.h.
template <class Choice, std::size_t count>
Choice choose(const Named<Choice> (&table)[count], const std::string& name) {
  for (const auto& [known, choice] : table)
    if (name == known) return choice;
  throw nanobind::value_error(("there is no choice '" + name + "'").c_str());
}

// The names of a table, for Python.
template <class Choice, std::size_t count>
nanobind::list names(const Named<Choice> (&table)[count]) {
  nanobind::list names;
  for (const auto& entry : table) names.append(entry.name);
  return names;
}

}  // namespace lenet
