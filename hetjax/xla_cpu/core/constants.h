// What the kernels add to the raw sums, by the classes of an output's row and column.
#ifndef HETJAX_XLA_CPU_CORE_CONSTANTS_H_
#define HETJAX_XLA_CPU_CORE_CONSTANTS_H_

#include <cstdint>

#include "ops.h"
#include "scratch.h"
#include "taps.h"

namespace hetjax {

// An output's tile covers its valid kernel rows and all columns; columns outside the image are read
// as code zero, which the constants take back. Depthwise kernels visit the valid taps only.
class Constants {
 public:
  Constants(const Layer& layer, const ConvArguments& arguments, const TapClasses& rows,
            const TapClasses& columns, Carver* memory);

  // Of all lanes of all blocks, [groups][blocks_per_group][lanes of a full one].
  const uint32_t* Of(int32_t row_class, int32_t column_class) const {
    return values_ + (row_class * columns_ + column_class) * size_;
  }
  // From one column class to the next.
  int64_t size() const { return size_; }
  int64_t Lane(int64_t group, int64_t block) const {
    return (group * blocks_per_group_ + block) * block_;
  }

 private:
  const int64_t block_, blocks_per_group_, columns_, size_;
  uint32_t* values_;
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_CONSTANTS_H_
