// What the Python modules have in common.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <string>

#include "choices.h"

namespace lenet {

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
