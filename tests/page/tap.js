// Records the page's output in the audio thread, where no sample is lost.
class Tap extends AudioWorkletProcessor {
  process([input]) {
    const [left, right] = input;
    if (left) this.port.postMessage({ time: currentTime, sound: [left.slice(), (right ?? left).slice()] });
    return true;
  }
}
registerProcessor("tap", Tap);
