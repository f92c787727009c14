package bench;

import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** Sinks that leave the results as CSV, one file per subtask. */
final class CsvSink {
    /** Writes lines as they come. */
    static final class Lines implements Sink<String> {
        private final String folder;

        Lines(Path folder) {
            this.folder = folder.toString();
        }

        @Override
        public SinkWriter<String> createWriter(WriterInitContext context) throws IOException {
            BufferedWriter file = open(folder, context);
            return new SinkWriter<>() {
                @Override
                public void write(String line, Context ignored) throws IOException {
                    file.write(line);
                    file.newLine();
                }

                @Override
                public void flush(boolean endOfInput) throws IOException {
                    file.flush();
                }

                @Override
                public void close() throws IOException {
                    file.close();
                }
            };
        }
    }

    /** Adds up the means and counts the alerts of each sensor, and writes them at the end. */
    static final class Totals implements Sink<Ewma.Smoothed> {
        private final String folder;

        Totals(Path folder) {
            this.folder = folder.toString();
        }

        @Override
        public SinkWriter<Ewma.Smoothed> createWriter(WriterInitContext context) throws IOException {
            BufferedWriter file = open(folder, context);
            Map<Integer, double[]> totals = new HashMap<>();
            return new SinkWriter<>() {
                @Override
                public void write(Ewma.Smoothed smoothed, Context ignored) {
                    double[] total = totals.computeIfAbsent(smoothed.sensor, sensor -> new double[2]);
                    total[0] += smoothed.alert ? 1 : 0;
                    total[1] += smoothed.mean;
                }

                @Override
                public void flush(boolean endOfInput) {}

                @Override
                public void close() throws IOException {
                    for (Map.Entry<Integer, double[]> entry : totals.entrySet()) {
                        file.write(entry.getKey() + "," + (long) entry.getValue()[0] + "," + entry.getValue()[1] + "\n");
                    }
                    file.close();
                }
            };
        }
    }

    private static BufferedWriter open(String folder, WriterInitContext context) throws IOException {
        int subtask = context.getTaskInfo().getIndexOfThisSubtask();
        return Files.newBufferedWriter(Path.of(folder, subtask + ".csv"));
    }

    private CsvSink() {}
}
