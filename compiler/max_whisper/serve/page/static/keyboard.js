// Space plays and pauses; arrows, Home and End move through the recording.

const STEP = 5;
const CONTROLS = "button, input, select, textarea, a, summary, [contenteditable]";
const MOVES = {
  ArrowLeft: (player) => player.time - STEP,
  ArrowRight: (player) => player.time + STEP,
  Home: () => 0,
  End: (player) => player.seconds,
};

// Lets keys steer the player, but for those that mean something to what has the focus.
export function listen(player, seekBar, isShown) {
  document.addEventListener("keydown", (event) => {
    if (!isShown() || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const focused = document.activeElement;
    if (event.key === " " && !focused.closest(CONTROLS)) player.toggle();
    else if (event.key in MOVES && (focused === seekBar || (focused === document.body && event.key.startsWith("Arrow")))) {
      player.seek(MOVES[event.key](player));
    } else return;
    event.preventDefault();
  });
}
